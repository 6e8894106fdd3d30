"""The cross-entropy of grey pixels: an energy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, distributions, nn
from torch.distributions import constraints

from vae_lightning.needs import PIXELS

TRAITS = {"density": False}
NEEDS = {
    "data.binarize": (
        ["none"],
        "on binary pixels it is the Bernoulli likelihood: say likelihood=bernoulli or data.binarize=none",
    ),
    **PIXELS,
}


class GreyEnergy(distributions.Distribution):
    """exp(-cross-entropy) of values in [0, 1] under logits. It does not integrate to one, so it has no likelihood.

    Loaiza-Ganem and Cunningham (2019), arXiv:1907.06845, section 3, on what it costs to pretend otherwise.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012
    support = constraints.unit_interval

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, torch.Size(), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    def log_prob(self, value: Tensor) -> Tensor:
        """The negative energy, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        logits, value = torch.broadcast_tensors(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")


class CrossEntropy(nn.Module):
    """Grey pixels scored by their cross-entropy under the network's logits.

    >>> CrossEntropy(shape=(1, 2, 2))(torch.zeros(5, 1, 2, 2)).log_prob(torch.full((1, 2, 2), 0.3))[0]
    tensor(-2.7726)

    Args:
        shape: (C, H, W).
    """

    density = False

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = self.param_shape = tuple(shape)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """logits (..., C, H, W) -> energy, batch (...), event (C, H, W)."""
        return distributions.Independent(GreyEnergy(params), len(self.param_shape))
