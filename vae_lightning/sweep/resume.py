"""`sweep.resume=<folder>`: the command line of a sweep again, for what is unfinished of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from vae_lightning import stranger
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.override import key, quoted
from vae_lightning.paths import expanded
from vae_lightning.ranks.place import restarts

KEY = "sweep.resume="
CONFIG_DIR = ("--config-dir", "-cd")
VARIABLE = "VAE_LIGHTNING_RESUME"  # tells each job, wherever its launcher runs it


def is_resumed() -> bool:
    """Whether this job, or this sweep, may have been begun before: asked for, or put back into the queue by Slurm."""
    return VARIABLE in os.environ or restarts() > 0


def expand(arguments: Sequence[str]) -> list[str]:
    """A command line with `sweep.resume=` completed by that of the sweep; others as they are.

    Raises:
        ConfigError: that folder is none of a sweep, or says what no file may say.
        UserError: it is damaged.
    """
    asked = [a for a in arguments if a.startswith(KEY)]
    if not asked:
        return list(arguments)
    folder = expanded(asked[-1].removeprefix(KEY).strip("'\""))
    saved = folder / "multirun.yaml"
    if not os.path.isfile(saved):  # of a name that is too long, Path.is_file says so in an error
        raise ConfigError(f"{KEY}{folder}: not the folder of a sweep; {saved} was expected")
    stranger.inside(folder)
    hydra, task, sources = _recorded(saved)
    rest = [a for a in arguments if a not in asked and a not in ("-m", "--multirun")]
    if sources and not any(a.startswith(CONFIG_DIR) for a in rest):
        said = " ".join(f"--config-dir={shlex.quote(source)}" for source in sources)
        raise ConfigError(
            f"{KEY}{folder}: this sweep had options of its own, which may run any code. If you trust them, say "
            f"sweep.resume={folder} {said}"
        )
    replaced = {"hydra.mode", "hydra.sweep.dir", f"hydra.job.env_set.{VARIABLE}", *map(key, rest)}
    old = []
    for text in [*hydra, *task]:
        override = stranger.parsed(text, saved)
        if override.key_or_group in replaced:
            continue
        if override.is_hydra_override():
            old.append(stranger.allowed_of_hydra(text, override, saved))
        elif stranger.allowed(text, override, saved):
            old.append(text)
    os.environ[VARIABLE] = "1"
    where = [f"hydra.sweep.dir={quoted(folder.absolute())}", f"+hydra.job.env_set.{VARIABLE}='1'"]
    flags = [a for a in rest if a.startswith("-")]  # one between overrides would end them
    return ["--multirun", *flags, *old, *(a for a in rest if a not in flags), *where]


def _recorded(path: Path) -> tuple[list[str], list[str], list[str]]:
    """What a sweep was told of Hydra and of its jobs, and the folders of options that its user had."""
    try:
        hydra = stranger.read_yaml(path)["hydra"]
        overrides, sources = hydra["overrides"], hydra["runtime"]["config_sources"]
        found = [source["path"] for source in sources if source["provider"] == "command-line"]
        lists = overrides["hydra"], overrides["task"], found
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged, or not written by vae_lightning") from error
    said, task, folders = (stranger.texts(each, path) for each in lists)
    return said, task, folders
