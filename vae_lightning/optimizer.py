"""Optimisers, in torch's fused form where the precision allows it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from vae_lightning.schema import Fraction, NonNegative, Positive


def adam(
    parameters: Iterable[nn.Parameter],
    fused: bool,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Adam:
    """Kingma and Ba (2015), arXiv:1412.6980, algorithm 1."""
    return torch.optim.Adam(parameters, lr, (betas[0], betas[1]), eps, weight_decay, fused=fused)


def adamw(
    parameters: Iterable[nn.Parameter],
    fused: bool,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> torch.optim.AdamW:
    """Loshchilov and Hutter (2019), arXiv:1711.05101, algorithm 2."""
    return torch.optim.AdamW(parameters, lr, (betas[0], betas[1]), eps, weight_decay, fused=fused)


def adamax(
    parameters: Iterable[nn.Parameter],
    lr: Positive = 2e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Adamax:
    """Kingma and Ba (2015), arXiv:1412.6980, algorithm 2."""
    return torch.optim.Adamax(parameters, lr, (betas[0], betas[1]), eps, weight_decay)
