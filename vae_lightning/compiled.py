"""The gradient of a minibatch by torch.compile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from vae_lightning import noise
from vae_lightning.anneal import Tensors
from vae_lightning.data.loader import Minibatch
from vae_lightning.errors import first_line
from vae_lightning.optimizer import FusedAdam, fused, plain
from vae_lightning.step import Step

if TYPE_CHECKING:
    from vae_lightning.lit import LitVAE

log = logging.getLogger("vae_lightning")
Loss = Callable[["LitVAE", Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]
COMPILER = partial(torch.compile, dynamic=False, options={"fallback_random": True})


class CompiledStep(Step):
    """Compiles the loss and its gradient for each shape of a minibatch; what is annealed is a tensor, compiled once.

    The numbers that are drawn are those of torch itself, and the weights keep their names. What cannot be compiled is
    said once, and goes on as it is.

    Args:
        compiler: makes a function faster.
    """

    observable = False

    def __init__(self, compiler: Callable[[Any], Any] = COMPILER) -> None:
        self.compiler = compiler
        self.compiled: Loss = compiler(_loss)
        self.shapes = set[torch.Size]()  # that were compiled
        self.tensors: Tensors | None = None

    def update(self, lit: LitVAE, optimizer: LightningOptimizer) -> None:
        """On a GPU Adam is compiled too."""
        adam = optimizer.optimizer
        if isinstance(adam, FusedAdam) and adam.update is fused and lit.trained[0].is_cuda:
            adam.update = self._or_fused(self.compiler(plain), adam)
        super().update(lit, optimizer)

    def _or_fused(self, compiled: Callable[..., None], adam: FusedAdam) -> Callable[..., None]:
        def update(*args: Any, **kwargs: Any) -> None:
            try:
                compiled(*args, **kwargs)
            except Exception as error:
                log.warning("accelerator.compile=true: the optimizer: %s; going on without", _said(error))
                adam.update = partial(fused)  # and is not compiled again
                fused(*args, **kwargs)

        return update

    def gradient(self, lit: LitVAE, batch: Minibatch) -> dict[str, Tensor]:
        if self.compiled is _loss or batch.x.shape in self.shapes:
            return self._gradient(lit, batch)
        gradients = [None if p.grad is None else p.grad.clone() for p in lit.trained]
        buffers = [buffer.clone() for buffer in lit.buffers()]
        states = [generator.get_state() for generator in noise.generators(lit.device)]
        try:
            values = self._gradient(lit, batch)
        except Exception as error:  # a compiler fails in many ways
            log.warning("accelerator.compile=true: %s; going on without", _said(error))
            self.compiled = _loss
            for parameter, gradient in zip(lit.trained, gradients, strict=True):
                parameter.grad = gradient
            for buffer, before in zip(lit.buffers(), buffers, strict=True):
                buffer.copy_(before)
            for generator, state in zip(noise.generators(lit.device), states, strict=True):
                generator.set_state(state)
            return self._gradient(lit, batch)
        self.shapes.add(batch.x.shape)
        return values

    def _gradient(self, lit: LitVAE, batch: Minibatch) -> dict[str, Tensor]:
        parameter = lit.trained[0]
        self.tensors = self.tensors or Tensors(parameter.device, parameter.dtype)
        with self.tensors.used(lit, lit.annealed):
            loss, terms = self.compiled(lit, batch.x, batch.y)
        lit.manual_backward(loss if batch.weight == 1.0 else loss * batch.weight)
        return {"loss": loss, **terms}


def _loss(lit: LitVAE, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    loss, terms = lit.loss(lit.model, x, lit.context(y))
    return loss, terms


def _said(error: Exception) -> str:
    """The cause, which torch wraps, in one line."""
    cause = error.__cause__ or error
    return first_line(cause) if isinstance(cause, Exception) and str(cause) else type(cause).__name__
