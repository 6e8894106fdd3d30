"""Run folders and checkpoints; `ckpt=` continues a run: same folder, same options, and what the command line adds."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_lightning.errors import ConfigError, UserError
from vae_lightning.override import key, quoted
from vae_lightning.paths import expanded
from vae_lightning.stranger import inside, read_overrides
from vae_lightning.whole import damage

log = logging.getLogger("vae_lightning")


ONCE = ("resume.override",)  # is said of one continuation, and not of the next
LAST, BEST = "last.ckpt", "best.ckpt"


def find_checkpoint(path: str | Path, name: str = LAST) -> Path:
    """The checkpoint that `path`, a run folder or a file, stands for.

    In a folder whose checkpoint of that `name` is damaged or missing it is the other one, and a warning says so. A file
    is taken as it is.

    Raises:
        ConfigError: there is none; the message says where one was looked for, and what is wrong there.
    """
    path = expanded(path)
    if os.path.isfile(path):  # of a name that is too long, Path.is_file says so in an error
        return path
    if not os.path.exists(path):
        raise ConfigError(f"{path}: there is no such file or folder")
    problems: list[str] = []
    for each in dict.fromkeys((name, LAST, BEST)):
        place = path / each if os.path.isfile(path / each) else path / "checkpoints" / each
        why = damage(place) if os.path.isfile(place) else "there is none"
        if why is None:
            for problem in problems:
                log.warning("%s. IN ITS PLACE %s IS USED", problem, place)
            return place
        problems.append(f"{place}: {why}")
    if not any(os.path.isfile(folder / each) for each in (LAST, BEST) for folder in (path, path / "checkpoints")):
        raise ConfigError(f"{path}: no checkpoint in it; {path / 'checkpoints' / name} was expected")
    raise ConfigError(f"{path}: no whole checkpoint in it. {'; '.join(problems)}")


def instead(checkpoint: Path) -> str:
    """Words on the other checkpoint of the same run, if that is whole."""
    others = [checkpoint.with_name(name) for name in (LAST, BEST) if name != checkpoint.name]
    whole = [other for other in others if other.is_file() and damage(other) is None]
    return f". {whole[0]} is whole: say that" if whole else ""


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
            find_checkpoint(path, BEST)  # says what is missing
        found += jobs
    return list(dict.fromkeys(found))


def by_number(folder: Path) -> tuple[Any, ...]:
    """A key to sort folders by: 9 comes before 10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in folder.parts)


def expand(arguments: Sequence[str]) -> list[str]:
    """A command line with `ckpt=` completed by the overrides and the folder of the run that it continues.

    Raises:
        ConfigError: the checkpoint does not exist, is damaged, or the folder says what no file may say.
        UserError: a link leads out of the folder.
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
    if os.path.isfile(expanded(value)) and (why := damage(checkpoint)) is not None:  # in a folder it is whole already
        raise ConfigError(f"ckpt={checkpoint}: damaged, or not a checkpoint: {why}{instead(checkpoint)}")
    folder = inside(run_folder(checkpoint))
    try:
        kept = read_overrides(folder / ".hydra" / "overrides.yaml", [*keys, *ONCE])
    except ConfigError:
        raise
    except UserError as error:
        raise ConfigError(f"ckpt={value}: {error}; delete it, and say all options of the run again") from error
    where = [] if "hydra.run.dir" in given else [f"hydra.run.dir={quoted(folder)}"]
    rest = [f"ckpt={quoted(checkpoint)}" if name == "ckpt" else a for name, a in zip(keys, arguments, strict=True)]
    return [*kept, *rest, *where]
