"""A run that is asked to end saves its state and does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from vae_lightning import signals
from vae_lightning.resume import LAST


class Stop(Callback):
    """Ends a run that a signal has asked to end: after a step with a new `last.ckpt`, between two epochs with that of
    the epoch, in the midst of a validation with one from which it begins anew, and in a test, where all is saved.

    All processes of a run agree at the end of each portion of minibatches that Lightning sees as one; a single process
    ends after a minibatch.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoints" / LAST

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if (number := _agreed(trainer)) and not _epoch_is_over(trainer):
            self._end(trainer, number)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if number := _agreed(trainer):
            self._end(trainer, number)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (number := _agreed(trainer)) and self.path.exists():
            raise signals.Stopped(number, f"saved after epoch {trainer.current_epoch}")

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if number := _agreed(trainer):
            raise signals.Stopped(number, "training is done and saved")

    def _end(self, trainer: L.Trainer, number: int) -> None:
        for logger in trainer.loggers:  # no gap, even if nobody waits for the end
            logger.save()
        trainer.save_checkpoint(self.path)
        raise signals.Stopped(number, f"saved after step {trainer.global_step}")


def _agreed(trainer: L.Trainer) -> int | None:
    """The signal that one of the processes has heard."""
    number = signals.asked() or 0
    if trainer.world_size > 1:
        everyone = torch.tensor(number, dtype=torch.int64, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(everyone, torch.distributed.ReduceOp.MAX)
        number = int(everyone)
    return number or None


def _epoch_is_over(trainer: L.Trainer) -> bool:
    """A validation, or the end of the epoch, is next."""
    loader: Any = trainer.train_dataloader
    return bool(loader.position >= loader.minibatches)
