"""An exponential moving average of the weights."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from vae_lightning.schema import Fraction


class EMA(WeightAveraging):
    """Validates, tests and keeps the average of the weights; training goes on with the weights themselves.

    Polyak and Juditsky (1992), 10.1137/0330046, with exponential weights: average = decay average + (1 - decay) weight
    after every step of the optimiser.

    Args:
        decay: the part of the average that stays.
    """

    def __init__(self, decay: Fraction = 0.999) -> None:
        super().__init__()
        self.decay, self.begun = decay, False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert self._average_model is not None
        # Asked once: torch's own update asks the device at every step, and the processor waits for the answer.
        self.begun = int(self._average_model.n_averaged) > 0
        trainer.optimizers[0].register_step_post_hook(lambda *_: self._update(pl_module))

    @torch.no_grad()
    def _update(self, pl_module: L.LightningModule) -> None:
        average = self._average_model
        assert average is not None
        averages = [*average.module.parameters(), *average.module.buffers()]
        pairs = list(zip(averages, [*pl_module.parameters(), *pl_module.buffers()], strict=True))
        followed = [pair for pair in pairs if self.begun and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (self.begun and pair[0].is_floating_point())]  # counts, and the start
        if followed:
            torch._foreach_lerp_([a for a, _ in followed], [w for _, w in followed], 1 - self.decay)
        if copied:
            torch._foreach_copy_([a for a, _ in copied], [w for _, w in copied])
        average.n_averaged += 1
        self.begun = True

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """In the midst of a validation, which is given up then, the two have changed places."""
        if trainer.validating:
            self._swap_models(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Only a run that goes on takes the weights themselves; a test is one of the average."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return False  # Lightning would ask once for several steps of the optimiser
