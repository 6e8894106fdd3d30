"""What every command shares: the command line is checked, Hydra composes, errors are told in words."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.utils import get_object
from omegaconf import DictConfig

from vae_lightning import command_line
from vae_lightning.check import plain
from vae_lightning.confined import confine
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.help import text
from vae_lightning.importing import uncollected
from vae_lightning.override import quoted
from vae_lightning.paths import CONF

log = logging.getLogger("vae_lightning")


def start(name: str, folders: str) -> NoReturn:
    """The command of `conf/<name>.yaml`: its `_target_` is called with all its other values.

    Args:
        name: of the configuration.
        folders: the key that arguments without a key are for: `report outputs/a outputs/b` means
            `report 'runs=[outputs/a,outputs/b]'`.
    """

    def expand(arguments: Sequence[str]) -> list[str]:
        if {"-m", "--multirun"} & set(arguments):
            raise ConfigError(
                f"-m: vae_lightning.{name} trains nothing and has no sweeps; name several folders instead"
            )
        bare = [a for a in arguments if not a.startswith("-") and ("=" not in a or Path(a).exists())]
        if lost := [a for a in bare if not Path(a).expanduser().exists()]:
            raise ConfigError(f"{', '.join(lost)}: there is no such file or folder")
        rest = [a for a in arguments if a not in bare]
        named = ",".join(map(quoted, bare))
        return [*rest, f"{folders}=[{named}]"] if bare else rest

    def job(config: DictConfig) -> Any:
        settings = plain(config)
        with uncollected():
            work = get_object(settings.pop("_target_"))
        return work(**settings)

    run(name, job, expand)


def run(name: str, job: Callable[[DictConfig], Any], expand: Callable[[Sequence[str]], list[str]] = list) -> NoReturn:
    """Compose `conf/<name>.yaml` with the command line, hand it to `job`, and leave the program.

    It ends with 0, with 1 (a job failed), with 2 (the command line cannot work; nothing was run), or with 130 (Ctrl-C).

    Args:
        name: of the configuration.
        job: does the work; may raise `UserError`. A function of a module, so that launchers can send it.
        expand: completes the arguments before they are read.
    """
    confine()
    program = "vae_lightning" if name == "config" else f"vae_lightning.{name}"
    try:
        sys.argv[1:] = expand(sys.argv[1:])
        flags, overrides = command_line.split(sys.argv[1:])
        custom = flags.config_path or flags.config_name or flags.hydra_help
        searchpath = [str(Path(flags.config_dir).absolute())] if flags.config_dir else []
        if flags.help and not custom:
            print(text(overrides, searchpath, name, flags.resolve))
            sys.exit(0)
        wrong = [] if custom or flags.help else command_line.check(overrides, searchpath, flags.multirun, name)
    except ConfigError as error:
        wrong = [str(error)]
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if wrong:
        count = "one problem" if len(wrong) == 1 else f"{len(wrong)} problems"
        print(f"{program}: {count}, nothing was run", *wrong, sep="\n  ", file=sys.stderr)
        sys.exit(ConfigError.exit_code)
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(partial(_told, job))()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _told(job: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    """What is wrong in words and without a traceback; it ends the program, as a job of a sweep never does."""
    try:
        return job(config)
    except UserError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)
