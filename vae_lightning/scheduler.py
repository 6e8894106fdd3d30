"""Learning rates over time: each returns torch's scheduler and when it moves: `step`, `epoch`, `validation`."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau, StepLR

from vae_lightning.schema import Count, Fraction, NonNegative

Scheduler = tuple[LRScheduler, str]


def none(optimizer: Optimizer) -> Scheduler:
    """A constant learning rate."""
    return LambdaLR(optimizer, lambda epoch: 1.0), "epoch"


def cosine(
    optimizer: Optimizer,
    steps_per_epoch: int,
    max_epochs: int,
    warmup_epochs: NonNegative = 0.0,
    final: Fraction = 0.0,
) -> Scheduler:
    """Linear from 0 over `warmup_epochs`, then half a cosine down to `final` times the learning rate at `max_epochs`.

    Loshchilov and Hutter (2017), arXiv:1608.03983, eq. 5, without restarts.
    """
    warmup, total = warmup_epochs * steps_per_epoch, max_epochs * steps_per_epoch

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        part = min(1.0, (step - warmup) / max(1.0, total - warmup))
        return final + (1 - final) * (1 + math.cos(math.pi * part)) / 2

    return LambdaLR(optimizer, factor), "step"


def step(optimizer: Optimizer, every_epochs: Count = 10, factor: Fraction = 0.5) -> Scheduler:
    """The learning rate is multiplied by `factor` every few epochs."""
    return StepLR(optimizer, every_epochs, factor), "epoch"


def plateau(optimizer: Optimizer, patience: Count = 5, factor: Fraction = 0.5, min_lr: NonNegative = 0.0) -> Scheduler:
    """The learning rate is multiplied by `factor` after `patience` validations without a lower loss."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # as all other schedulers have it
    return ReduceLROnPlateau(optimizer, "min", factor, patience, min_lr=min_lr), "validation"
