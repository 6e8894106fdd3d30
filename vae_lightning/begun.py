"""The run that another one goes on with: its checkpoint, and what of it must be as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vae_lightning.callback.progress import Progress
from vae_lightning.change import settle
from vae_lightning.checkpoint import read_checkpoint
from vae_lightning.data.images import Images
from vae_lightning.errors import ConfigError, NonFiniteError, UserError, first_line
from vae_lightning.opened import place
from vae_lightning.resume import find_checkpoint, run_folder

log = logging.getLogger("vae_lightning")


def begun(config: DictConfig) -> tuple[Path | None, dict[str, Any]]:
    """The checkpoint to go on from, and its content.

    Raises:
        ConfigError: there is none, nothing is left to do, or something that matters is told otherwise than before.
    """
    if config.ckpt is None:
        return None, {}
    path = find_checkpoint(config.ckpt)
    checkpoint = read_checkpoint(path)
    done, midst = place(checkpoint, path)
    if done >= config.trainer.max_epochs and (run_folder(path) / "results.json").exists():
        raise ConfigError(f"ckpt={path}: has its {done} epochs; say trainer.max_epochs={2 * done} to train on")
    for change in settle(checkpoint["vae_lightning"]["config"], config, midst, path):
        if change.key not in ("ckpt", "resume.override"):
            log.info("going on with %s=%s; it was %s", change.key, change.now, change.before)
    log.info("going on after epoch %d, step %d, of %s", done, checkpoint["global_step"], path)
    return path, checkpoint


def same_data(checkpoint: dict[str, Any], data: Images, config: DictConfig) -> None:
    """
    Raises:
        ConfigError: these are not the images that the run has begun with, and nobody has said that they may be others.
    """
    known = checkpoint.get("made_with", {}).get("data")
    if known is None or any(key.partition(".")[0] == "data" for key in config.resume.override or []):
        return
    if known != data.sha256:
        raise ConfigError(
            f"ckpt={config.ckpt}: the images are not those that the run has begun with (their SHA-256 was {known}, "
            f"and is {data.sha256}). Bring those back, or say resume.override=[data]"
        )


@contextmanager
def fitting(resumed: Path | None, progress: Progress) -> Iterator[None]:
    """Inside, a run goes on: what goes wrong before its first epoch is the checkpoint's fault, and said in words.

    Args:
        resumed: the checkpoint; None: the run starts anew, and errors are what they are.
        progress: knows whether there was an epoch.

    Raises:
        UserError: the checkpoint does not fit; names it.
    """
    try:
        yield
    except Exception as error:
        if resumed is None or progress.begun or isinstance(error, ConfigError | NonFiniteError):
            raise
        why = first_line(error)
        raise UserError(f"{resumed}: does not fit the run that it is to continue ({why})") from error
