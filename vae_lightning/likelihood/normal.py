"""p(x | z) = N(mean, sigma^2) for grey pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, distributions, nn

from vae_lightning.schema import Positive

NEEDS = {
    "data.binarize": (
        ["none"],
        "a normal density is for grey pixels: say data.binarize=none or likelihood=bernoulli",
    )
}


class Normal(nn.Module):
    """Independent normal pixels around the network's output, with one sigma for all.

    >>> p = Normal(shape=(1, 2, 2), sigma=1.0)(torch.zeros(5, 1, 2, 2))
    >>> p.log_prob(torch.zeros(1, 2, 2))[0]  # -2 log 2 pi nats
    tensor(-3.6758)

    Args:
        shape: (C, H, W).
        scale: `fixed`, or `learned` together with the weights.
        sigma: in units of the pixels, which lie in [0, 1]; if learned, where learning starts.
    """

    density = True

    def __init__(
        self, shape: tuple[int, ...], scale: Literal["fixed", "learned"] = "fixed", sigma: Positive = 0.1
    ) -> None:
        super().__init__()
        self.param_shape = tuple(shape)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)), requires_grad=scale == "learned")

    def forward(self, params: Tensor) -> distributions.Distribution:
        """mean (..., C, H, W) -> p(x | z), batch (...), event (C, H, W)."""
        return distributions.Independent(
            distributions.Normal(params, self.log_sigma.exp().expand_as(params)), len(self.param_shape)
        )
