"""Run folders and checkpoints; `ckpt=` continues a run: same folder, same options, and what the command line adds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vae_lightning.errors import ConfigError, first_line
from vae_lightning.override import key, quoted
from vae_lightning.paths import expanded


def find_checkpoint(path: str | Path, name: str = "last.ckpt") -> Path:
    """The checkpoint that `path`, a run folder or a file, stands for.

    Raises:
        ConfigError: there is none; the message says where one was looked for.
    """
    path = expanded(path)
    if os.path.isfile(path):  # of a name that is too long, Path.is_file says so in an error
        return path
    if not os.path.exists(path):
        raise ConfigError(f"{path}: there is no such file or folder")
    for candidate in (path / "checkpoints" / name, path / name):
        if os.path.isfile(candidate):
            return candidate
    raise ConfigError(f"{path}: no checkpoint in it; {path / 'checkpoints' / name} was expected")


def run_folder(checkpoint: Path) -> Path:
    """The run folder that a checkpoint lies in."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def run_folders(paths: str | Sequence[str]) -> list[Path]:
    """All run folders among and below `paths`: a sweep's folder stands for its jobs.

    Raises:
        ConfigError: there is none in one of them.
    """
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str) else paths:
        root = expanded(path)
        if os.path.isfile(root) or os.path.isdir(root / "checkpoints"):
            found.append(root)
            continue
        jobs = sorted((p.parent for p in root.rglob("checkpoints") if p.is_dir()), key=by_number)
        if not jobs:
            find_checkpoint(path, "best.ckpt")  # says what is missing
        found += jobs
    return list(dict.fromkeys(found))


def by_number(folder: Path) -> tuple[Any, ...]:
    """A key to sort folders by: 9 comes before 10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in folder.parts)


def expand(arguments: Sequence[str]) -> list[str]:
    """A command line with `ckpt=` completed by the overrides and the folder of the run that it continues.

    Raises:
        ConfigError: the checkpoint does not exist.
    """
    keys = [key(a) for a in arguments]
    given = dict(zip(keys, arguments, strict=True))
    value = given.get("ckpt", "ckpt=null").partition("=")[2].strip("'\"")
    if value == "null":
        return list(arguments)
    if not value:
        raise ConfigError("ckpt=: say which run folder is to go on, or leave ckpt out")
    try:
        checkpoint = find_checkpoint(value).absolute()
    except ConfigError as error:
        raise ConfigError(f"ckpt={error}") from error
    folder = run_folder(checkpoint)
    saved = folder / ".hydra" / "overrides.yaml"
    try:
        old = [str(o) for o in OmegaConf.load(saved)] if saved.is_file() else []
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        why = f"{saved} is damaged ({first_line(error)})"
        raise ConfigError(f"ckpt={value}: {why}; delete it, and say all options of the run again") from error
    kept = [o for o in old if (name := key(o)) and name not in given and not name.startswith("hydra")]
    where = [] if "hydra.run.dir" in given else [f"hydra.run.dir={quoted(folder)}"]
    rest = [f"ckpt={quoted(checkpoint)}" if name == "ckpt" else a for name, a in zip(keys, arguments, strict=True)]
    return [*kept, *rest, *where]
