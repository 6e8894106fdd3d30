"""Run folders and checkpoints; `ckpt=` continues a run: same folder, same options, and what the command line adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_lightning.errors import ConfigError
from vae_lightning.override import key, quoted
from vae_lightning.stranger import inside, read_overrides


def find_checkpoint(path: str | Path, name: str = "last.ckpt") -> Path:
    """The checkpoint that `path`, a run folder or a file, stands for.

    Raises:
        ConfigError: there is none; the message says where one was looked for.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder")
    for candidate in (path / "checkpoints" / name, path / name):
        if candidate.is_file():
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
        root = Path(path).expanduser()
        if root.is_file() or (root / "checkpoints").is_dir():
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
        ConfigError: the checkpoint does not exist, or the folder says what no file may say.
        UserError: the folder is damaged.
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
    folder = inside(run_folder(checkpoint))
    saved = folder / ".hydra" / "overrides.yaml"
    kept = read_overrides(saved, keys)
    where = [] if "hydra.run.dir" in given else [f"hydra.run.dir={quoted(folder)}"]
    rest = [f"ckpt={quoted(checkpoint)}" if name == "ckpt" else a for name, a in zip(keys, arguments, strict=True)]
    return [*kept, *rest, *where]
