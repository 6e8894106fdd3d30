"""What a run that goes on brings with it, beyond what Lightning restores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from vae_lightning.results import made_with

log = logging.getLogger("vae_lightning")


class Resume(Callback):
    """Counts portions of an epoch as this run has them, gives the optimiser what it is told otherwise, and says where
    the bits may differ.

    Args:
        override: keys of the configuration that may differ from those that the run has begun with.
    """

    def __init__(self, override: Sequence[str]) -> None:
        self.override = override
        self.validates_anew = False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["made_with"] = made_with(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        before, now = checkpoint.get("made_with", {}), made_with(trainer)
        other = [f"{key} {before[key]} then, {now.get(key)} now" for key in before if before[key] != now.get(key)]
        if other and trainer.is_global_zero:
            log.warning("the numbers may differ in their last bits from those of an unbroken run: %s", "; ".join(other))
        self._count(trainer, checkpoint["loops"]["fit_loop"])

    def _count(self, trainer: L.Trainer, loop: dict[str, Any]) -> None:
        """Lightning counts portions, which may have been others, or cut short: the loader knows its position."""
        epochs = loop["epoch_progress"]["current"]
        if epochs["processed"] == epochs["started"]:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        position = loop["state_dict"]["combined_loader"][0]["position"]
        self.validates_anew = position >= data.minibatches
        here = data.portions if self.validates_anew else position // data.chunk
        progress, total = loop["epoch_loop.batch_progress"], epochs["processed"] * data.portions + here
        counted = here in (0, data.portions)  # Lightning goes round once more, and trains nothing
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = total - counted
        progress["is_last_batch"] = self.validates_anew
        progress["current"] = dict.fromkeys(progress["current"], here)
        progress["total"] = dict.fromkeys(progress["total"], total)
        if self.validates_anew:  # the state in which Lightning goes back to a validation
            progress = loop["epoch_loop.val_loop.batch_progress"]
            progress["current"] = dict.fromkeys(progress["current"], 0)
            progress["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.validates_anew:
            self.validates_anew = False
            trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A checkpoint brings the learning rate, and all else that an optimiser was told, with it."""
        if not any(key.partition(".")[0] in ("optimizer", "loss") for key in self.override):
            return
        groups = trainer.optimizers[0].param_groups
        fresh: Any = pl_module.configure_optimizers()
        for group, new in zip(groups, fresh[0][0].param_groups, strict=True):
            part = group["lr"] / group["initial_lr"]  # to which the scheduler has led it
            group.update({key: value for key, value in new.items() if key != "params"})
            group["lr"] *= part
        scheduler: Any = trainer.lr_scheduler_configs[0].scheduler
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [group["initial_lr"] for group in groups]
