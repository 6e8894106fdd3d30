"""`ckpt=<run folder or checkpoint>` continues that run: same folder, same options, and what the command line adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from vae_lightning.errors import ConfigError


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


def expand(arguments: Sequence[str]) -> list[str]:
    """A command line with `ckpt=` completed by the overrides and the folder of the run that it continues.

    Raises:
        ConfigError: the checkpoint does not exist.
    """
    keys = [_key(a) for a in arguments]
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
    kept = [o for o in old if (key := _key(o)) and key not in given and not key.startswith("hydra")]
    where = [] if "hydra.run.dir" in given else [f"hydra.run.dir='{folder}'"]
    rest = [f"ckpt='{checkpoint}'" if key == "ckpt" else a for key, a in zip(keys, arguments, strict=True)]
    return [*kept, *rest, *where]


def _key(argument: str) -> str | None:
    """The key that an override sets; None for a flag."""
    if argument.startswith("-"):
        return None
    try:
        return OverridesParser.create().parse_override(argument).key_or_group
    except HydraException:
        return None
