"""Whether a job in a batch gets what it would get alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lightning.data.loader import Minibatch
from vae_lightning.graph import Noise
from vae_lightning.lit import LitVAE
from vae_lightning.precision import listening
from vae_lightning.step import Step

HOOKS = ("on_before_backward", "on_after_backward")
NEAR = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05}  # differences by rounding, of one step
LEAST = 1e-3  # of the loss: a term may be a small difference of large numbers


class Found(NamedTuple):
    """What a minibatch came to."""

    values: dict[str, Tensor]
    gradients: list[Tensor]
    buffers: list[Tensor]


def obstacle(lit: LitVAE) -> str | None:
    """Why a job cannot be one of several, if that is known without a try."""
    if listening(lit.trainer, HOOKS):
        return "a callback listens to each backward pass"
    if getattr(lit.trainer.precision_plugin, "scaler", None) is not None:
        return f"trainer.precision={lit.trainer.precision} scales the loss of each job"
    if torch.is_anomaly_enabled():
        return "debug=true looks at each operation"
    return None


def alone(lit: LitVAE, batch: Minibatch, noise: Noise | None = None) -> Found:
    """As it is ever computed; nothing of it stays.

    Args:
        lit: the training module of the job.
        batch: its minibatch.
        noise: where it draws from, which learns how much that is; without it, from the stream of the minibatch.
    """
    step, before = Step(), [buffer.clone() for buffer in lit.buffers()]

    def compute() -> Found:
        found = after(lit, step.gradient(lit, batch))
        found = found._replace(buffers=[buffer.clone() for buffer in found.buffers])
        for buffer, old in zip(lit.buffers(), before, strict=True):
            buffer.copy_(old)
        for parameter in lit.parameters():
            parameter.grad = None
        return found

    if noise is None:
        step.draw(lit, batch)
        return compute()
    noise.learn(lambda: noise.draw(compute))
    noise.start(batch)
    return noise.draw(compute)


def after(lit: LitVAE, values: dict[str, Tensor]) -> Found:
    """What a minibatch has just come to, beside its loss and terms."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in lit.parameters()]
    return Found(values, gradients, list(lit.buffers()))


def difference(one: Found, other: Found, lit: LitVAE) -> str | None:
    """What the job would notice of being in a batch, if that is more than rounding."""
    if not all(torch.isfinite(value) for value in one.values.values()):
        return None  # it fails in either way
    near = NEAR[torch.bfloat16 if "mixed" in str(lit.trainer.precision) else next(lit.parameters()).dtype]
    least = LEAST * one.values["loss"].abs()
    for name, value in one.values.items():
        if other.values[name].sub(value).abs() > near * value.abs().maximum(least):
            return f"{name} {other.values[name].item():g} in the batch, {value.item():g} alone"
    for what in ("gradients", "buffers"):
        here, there = getattr(one, what), getattr(other, what)
        if _norm(a.double() - b.double() for a, b in zip(here, there, strict=True)) > near * _norm(here):
            return f"the {what} in the batch are not those of the job alone"
    return None


def _norm(tensors: Iterable[Tensor]) -> float:
    return sum(tensor.double().square().sum().item() for tensor in tensors) ** 0.5
