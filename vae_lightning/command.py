"""What every command shares: the command line is checked, Hydra composes, errors are told in words."""

from __future__ import annotations

import logging
import os
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig

from vae_lightning import command_line, signals
from vae_lightning.check import plain
from vae_lightning.confined import confine
from vae_lightning.errors import NO_ROOM, ConfigError, UserError, of_disk
from vae_lightning.help import text
from vae_lightning.importing import uncollected
from vae_lightning.override import quoted
from vae_lightning.paths import CONF, expanded
from vae_lightning.ranks.place import rank

FULL_ERROR = "HYDRA_FULL_ERROR"
LONGEST = 2000  # characters of an error, which repeats what the command line says

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
        bare = [a for a in arguments if not a.startswith("-") and ("=" not in a or os.path.exists(a))]
        if lost := [a for a in bare if not os.path.exists(expanded(a))]:
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

    It ends with 0, with 1 (a job failed), with 2 (the command line cannot work; nothing was run), or with 128 + the
    number of the signal that has asked for it: 130 (Ctrl-C), 143 (SIGTERM), 138 (SIGUSR1).

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
        wrong = _wrong_flags(flags)
        if not (wrong or custom or flags.help):
            wrong = command_line.check(overrides, searchpath, flags.multirun, name)
    except ConfigError as error:
        wrong = [str(error)]
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if wrong:
        _refuse(program, wrong)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = partial(_thread, program)
    try:
        with signals.heard(), _errors_as_they_are():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(partial(_told, program, job))()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except HydraException as error:
        _refuse(program, [str(error)])
    except Exception as error:  # of Hydra, before or after the job: it makes folders and writes into them
        if (cause := error if isinstance(error, OSError) else of_disk(error)) is None:
            raise
        print(f"{program}: {_disk(cause, program)}", file=sys.stderr)
        sys.exit(UserError.exit_code)
    sys.exit(0)


@contextmanager
def _errors_as_they_are() -> Iterator[None]:
    """Hydra passes errors on, in place of printing a traceback and ending the program."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        del os.environ[FULL_ERROR]
        if before is not None:
            os.environ[FULL_ERROR] = before


def _wrong_flags(flags: Namespace) -> list[str]:
    """What is named on the command line and is not there."""
    lines = []
    if flags.config_dir and not os.path.isdir(flags.config_dir):
        lines.append(f"--config-dir={flags.config_dir}: there is no such folder")
    saved = flags.experimental_rerun
    if saved and not (saved.endswith(".pickle") and os.path.isfile(saved)):
        lines.append(
            f"--experimental-rerun={saved}: there is no such .pickle file; ckpt=<run folder> goes on with a run"
        )
    return lines


def _refuse(program: str, wrong: Sequence[str]) -> NoReturn:
    """Say all that is wrong, and leave."""
    count = "one problem" if len(wrong) == 1 else f"{len(wrong)} problems"
    lines = [f"{program}: {count}, nothing was run", *map(visible, wrong)]
    if not rank():  # the first of several processes says it
        print(*lines, sep="\n  ", file=sys.stderr)
    sys.exit(ConfigError.exit_code)


def visible(text: str) -> str:
    """Without what would move the cursor or colour the terminal, and not too long.

    >>> visible("loss.beta=\x1b[2J")
    'loss.beta=\\\\x1b[2J'
    """
    whole = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]} …"


def _told(program: str, job: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    """What is wrong in words and without a traceback; it ends the program, as a job of a sweep never does."""
    try:
        return job(config)
    except ConfigError as error:
        _refuse(program, [str(error)])
    except UserError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)
    except Exception as error:
        if (cause := of_disk(error)) is None:
            raise
        print(f"{program}: {_disk(cause, program)}", file=sys.stderr)  # the log may be on the same disk
        sys.exit(UserError.exit_code)


def _disk(error: OSError, program: str) -> str:
    """What the disk said, of which file, and what to do."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None  # while a job runs
    folder = Path(hydra.runtime.output_dir) if hydra is not None else None
    name = error.filename if error.filename is not None else folder or "the run folder"
    what = f"{name}: {error.strerror or error}"
    if error.errno in NO_ROOM:
        begun = folder is not None and (folder / "checkpoints" / "last.ckpt").is_file()
        return f"{what}; free some room, then " + (f"go on with ckpt={folder}" if begun else "start again")
    key = "hydra.run.dir=<folder>, or with -m hydra.sweep.dir" if program == "vae_lightning" else "out"
    return f"{what}; name a folder that can be written: {key}=<folder>"


def _thread(program: str, args: threading.ExceptHookArgs) -> None:
    """As `_told`, of a thread that writes, as TensorBoard has one."""
    if (cause := of_disk(args.exc_value)) is None:
        threading.__excepthook__(args)
    else:
        print(f"{program}: {_disk(cause, program)}", file=sys.stderr)
