"""Other ways to make a step: recorded as a graph, compiled, or without questions to the device."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vae_lightning.card import OnCard
from vae_lightning.compiled import CompiledStep
from vae_lightning.graph import GraphStep
from vae_lightning.precision import listening
from vae_lightning.step import Step

log = logging.getLogger("vae_lightning")


class Accelerate(Callback):
    """Gives the training module another `Step` where that is possible, and says why where it is not.

    On one GPU it is always one that does not wait for the card.

    Args:
        graph: a step is one launch of a recorded CUDA graph.
        compile: forward and backward pass are compiled.
    """

    def __init__(self, graph: bool, compile: bool) -> None:
        self.graph, self.compile = graph, compile
        self.step: Step | None = None  # that it gave

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        lit: Any = pl_module
        why = obstacle(trainer)
        if self.graph and why:
            log.warning("accelerator.graph=true %s; going on without", why)
        if type(lit.step) is not Step and lit.step is not self.step:
            lit.step.behind = self.graph and not why
            if self.compile:
                log.warning("accelerator.compile=true: this run trains with others, without that")
            return
        lit.step = Step()  # what was recorded belongs to the optimiser of an earlier fit
        if self.compile and trainer.world_size == 1:
            lit.step = CompiledStep()
        elif self.compile:
            log.warning(
                "accelerator.compile=true is for one process, these are %d; going on without", trainer.world_size
            )
        if not why:
            warnings.filterwarnings("ignore", ".*capturable=True.*")  # torch, of steps that are not recorded
            lit.step = GraphStep(OnCard(trainer.strategy.root_device), lit.step, self.graph)
        self.step = lit.step

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        lit: Any = pl_module
        if lit.step is self.step:
            lit.step = self.step = Step()  # recordings hold memory

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """No checkpoint is written after a loss that was not finite."""
        lit: Any = pl_module
        if lit.step.behind:
            lit.check()


def obstacle(trainer: L.Trainer) -> str | None:
    """Why no step can be recorded, as far as that is known before one is made; None if nothing is known."""
    if trainer.strategy.root_device.type != "cuda":
        return "needs a CUDA GPU"
    if trainer.world_size > 1:
        return f"is for one device, and these are {trainer.world_size}"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return "does not go with a scaled loss: say accelerator=gpu_bf16"
    if listeners := listening(trainer):
        return f"does not go with {type(listeners[0]).__name__}, which looks at every backward pass"
    return "does not go with debug=true" if trainer._detect_anomaly else None
