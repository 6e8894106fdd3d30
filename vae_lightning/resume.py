"""Run folders and checkpoints; `ckpt=` continues a run: same folder, same options, and what the command line adds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vae_lightning.errors import ConfigError
from vae_lightning.override import key, quoted
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
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder")
    problems: list[str] = []
    for each in dict.fromkeys((name, LAST, BEST)):
        place = path / each if (path / each).is_file() else path / "checkpoints" / each
        why = damage(place) if place.is_file() else "there is none"
        if why is None:
            for problem in problems:
                log.warning("%s. IN ITS PLACE %s IS USED", problem, place)
            return place
        problems.append(f"{place}: {why}")
    raise ConfigError(f"{path}: no checkpoint in it. {'; '.join(problems)}")


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
        root = Path(path).expanduser()
        if root.is_file() or (root / "checkpoints").is_dir():
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
        ConfigError: the checkpoint does not exist.
    """
    keys = [key(a) for a in arguments]
    given = dict(zip(keys, arguments, strict=True))
    value = given.get("ckpt", "ckpt=null").partition("=")[2].strip("'\"")
    if value in ("", "null"):
        return list(arguments)
    try:
        checkpoint = find_checkpoint(value).absolute()
    except ConfigError as error:
        raise ConfigError(f"ckpt={error}") from error
    folder = run_folder(checkpoint)
    saved = folder / ".hydra" / "overrides.yaml"
    old = [str(o) for o in OmegaConf.load(saved)] if saved.is_file() else []
    kept = [o for o in old if (name := key(o)) and name not in {*given, *ONCE} and not name.startswith("hydra")]
    where = [] if "hydra.run.dir" in given else [f"hydra.run.dir={quoted(folder)}"]
    rest = [f"ckpt={quoted(checkpoint)}" if name == "ckpt" else a for name, a in zip(keys, arguments, strict=True)]
    return [*kept, *rest, *where]
