"""Networks that tell two kinds of things apart, and how they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def dense_critic(inputs: int, hidden: Sequence[int]) -> nn.Sequential:
    """(B, ..., inputs in all) -> logits (B, 1)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise([inputs, *hidden]):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))


def tell_apart(first: Tensor, second: Tensor) -> Tensor:
    """The critic's own loss from its logits for either kind: the mean cross-entropy, in nats."""
    return (F.softplus(-first).mean() + F.softplus(second).mean()) / 2


def group(critic: nn.Module, lr: float, betas: Sequence[float]) -> list[dict[str, Any]]:
    """The critic's parameters with a learning rate of their own, as torch's optimisers take them."""
    return [{"params": list(critic.parameters()), "lr": lr, "betas": tuple(betas), "weight_decay": 0.0}]
