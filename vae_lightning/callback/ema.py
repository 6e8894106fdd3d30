"""An exponential moving average of the weights."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vae_lightning.schema import Fraction


class EMA(WeightAveraging):
    """Validates, tests and keeps the average of the weights; training goes on with the weights themselves.

    Polyak and Juditsky (1992), 10.1137/0330046, with exponential weights: average = decay average + (1 - decay) weight
    after every step of the optimiser.

    Args:
        decay: the part of the average that stays.
    """

    def __init__(self, decay: Fraction = 0.999) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        average = self._average_model
        assert average is not None

        def update(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            average.update_parameters(pl_module)

        trainer.optimizers[0].register_step_post_hook(update)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Only a run that goes on takes the weights themselves; a test is one of the average."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return False  # Lightning would ask once for several steps of the optimiser
