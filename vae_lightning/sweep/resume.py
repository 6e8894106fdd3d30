"""`sweep.resume=<folder>`: the command line of a sweep again, for what is unfinished of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vae_lightning.errors import ConfigError, first_line
from vae_lightning.override import key, quoted
from vae_lightning.paths import expanded
from vae_lightning.ranks.place import restarts

KEY = "sweep.resume="
VARIABLE = "VAE_LIGHTNING_RESUME"  # tells each job, wherever its launcher runs it


def is_resumed() -> bool:
    """Whether this job, or this sweep, may have been begun before: asked for, or put back into the queue by Slurm."""
    return VARIABLE in os.environ or restarts() > 0


def expand(arguments: Sequence[str]) -> list[str]:
    """A command line with `sweep.resume=` completed by that of the sweep; others as they are.

    Raises:
        ConfigError: that folder is none of a sweep.
    """
    asked = [a for a in arguments if a.startswith(KEY)]
    if not asked:
        return list(arguments)
    folder = expanded(asked[-1].removeprefix(KEY).strip("'\""))
    saved = folder / "multirun.yaml"
    if not os.path.isfile(saved):  # of a name that is too long, Path.is_file says so in an error
        raise ConfigError(f"{KEY}{folder}: not the folder of a sweep; {saved} was expected")
    os.environ[VARIABLE] = "1"
    try:
        hydra = OmegaConf.load(saved).hydra
        overrides, sources = hydra.overrides, hydra.runtime.config_sources
        old = [str(o) for o in [*overrides.hydra, *overrides.task]]
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, AttributeError, TypeError) as error:
        raise ConfigError(f"{KEY}{folder}: {saved} is damaged ({first_line(error)}); start the sweep anew") from error
    rest = [a for a in arguments if a not in asked and a not in ("-m", "--multirun")]
    replaced = {"hydra.mode", "hydra.sweep.dir", f"hydra.job.env_set.{VARIABLE}", *map(key, rest)}
    old = [o for o in old if key(o) not in replaced]
    where = [f"hydra.sweep.dir={quoted(folder.absolute())}", f"+hydra.job.env_set.{VARIABLE}='1'"]
    own = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
    return ["--multirun", *own, *old, *rest, *where]
