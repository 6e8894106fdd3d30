"""Lightning's precision plugins without their hooks around every backward pass and every step of the optimiser.

A hook costs some microseconds for each callback, three times a minibatch: more than a tenth of a small network's step.
They are left out only where no callback listens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from torch import Tensor
from torch.optim import Optimizer

HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


class LeanPrecision(Precision):
    """float32 throughout."""

    def pre_backward(self, tensor: Tensor, module: L.LightningModule) -> Tensor:  # type: ignore[override]
        return tensor

    def post_backward(self, tensor: Tensor, module: L.LightningModule) -> Tensor:  # type: ignore[override]
        return tensor

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Optimizer, model: L.LightningModule, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        model.on_before_optimizer_step(optimizer)
        return optimizer.step(**kwargs)


class LeanMixedPrecision(LeanPrecision, MixedPrecision):  # type: ignore[misc]
    """bfloat16 where autocast finds it safe."""


def lean(trainer: L.Trainer) -> None:
    """Give `trainer` the lean form of its precision plugin, if no callback would miss a hook."""
    plugin = trainer.precision_plugin
    if listening(trainer):
        return
    if type(plugin) is Precision:
        trainer.strategy.precision_plugin = LeanPrecision()
    elif type(plugin) is MixedPrecision and plugin.scaler is None:
        trainer.strategy.precision_plugin = LeanMixedPrecision("bf16-mixed", plugin.device)


def spare_questions(optimizer: Optimizer) -> None:
    """Off a GPU, lets `optimizer` step without asking whether a GPU records it.

    Where torch was built for GPUs and there is none, it searches for one in each step, as Lightning tells it to for
    the sake of processes that fork. That takes longer than the Adam of a small network.
    """
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):  # since torch 2.11
        if hasattr(optimizer, name):
            setattr(optimizer, name, lambda: None)


def listening(trainer: L.Trainer, hooks: Sequence[str] = HOOKS) -> list[Callback]:
    """The callbacks of `trainer` that have one of these hooks."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [c for c in callbacks if any(getattr(type(c), hook) is not getattr(Callback, hook) for hook in hooks)]
