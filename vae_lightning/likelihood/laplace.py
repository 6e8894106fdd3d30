"""p(x | z) = Laplace(location, b) for grey pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, distributions, nn

from vae_lightning.schema import Output, Positive

TRAITS = {"density": True}
NEEDS = {
    "data.binarize": (
        ["none"],
        "a Laplace density is for grey pixels: say data.binarize=none or likelihood=bernoulli",
    )
}


class Laplace(nn.Module):
    """Independent Laplace pixels around the network's output: the absolute error, as nats.

    >>> Laplace(shape=(1, 2, 2), b=1.0)(torch.zeros(5, 1, 2, 2)).log_prob(torch.zeros(1, 2, 2))[0]  # -4 log 2 nats
    tensor(-2.7726)

    Args:
        shape: (C, H, W).
        scale: `fixed`, or `learned` together with the weights, one for all pixels.
        b: in units of the pixels, which lie in [0, 1]; if learned, where learning starts.
        output: `linear`, or `sigmoid` to keep the location in [0, 1].
    """

    density = True

    def __init__(
        self,
        shape: tuple[int, ...],
        scale: Literal["fixed", "learned"] = "fixed",
        b: Positive = 0.1,
        output: Output = "linear",
    ) -> None:
        super().__init__()
        self.shape = self.param_shape = tuple(shape)
        self.output = output
        self.log_b = nn.Parameter(torch.tensor(math.log(b)), requires_grad=scale == "learned")

    def forward(self, params: Tensor) -> distributions.Distribution:
        """location (..., C, H, W) -> p(x | z), batch (...), event (C, H, W)."""
        location = params.sigmoid() if self.output == "sigmoid" else params
        pixels = distributions.Laplace(location, self.log_b.exp().expand_as(location))
        return distributions.Independent(pixels, len(self.shape))
