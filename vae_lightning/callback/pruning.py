"""End a trial that falls behind the others of its search."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vae_lightning.search.trial import Judge, Name, Pruned, named


def pruning(objective: Any) -> list[Callback]:
    """What a run needs that is a trial and may be pruned; nothing otherwise."""
    name = named()
    return [Pruning(name, str(objective))] if name else []


class Pruning(Callback):
    """Reports each validation to the study of which this run is a trial, and ends the run if the study says so.

    One process asks and tells the others.

    Args:
        name: of the trial.
        objective: what is optimised; of `test/elbo` the validation's counterpart is looked at, `val/elbo`.

    Raises:
        Pruned: at the end of a validation.
    """

    def __init__(self, name: Name, objective: str) -> None:
        self.name, self.value = name, f"val/{objective.partition('/')[2]}"
        self.judge: Judge | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        value, step, unworthy = float(trainer.callback_metrics[self.value]), trainer.current_epoch + 1, False
        if trainer.is_global_zero:
            self.judge = self.judge or Judge(self.name)
            unworthy = self.judge.unworthy(step, value)
        if trainer.strategy.broadcast(unworthy):
            raise Pruned(f"{self.value} {value:.2f} after epoch {step} of {trainer.max_epochs}: other trials do better")
