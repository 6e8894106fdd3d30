"""p(x | z): a discretised logistic distribution over 256 grey levels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, distributions, nn

from vae_lightning.distribution.grey import GreyLogistic
from vae_lightning.needs import GREY
from vae_lightning.schema import Positive

TRAITS = {"density": True}
NEEDS = {**GREY}


class Logistic(nn.Module):
    """The probability of each grey level: its bits per dimension compare with lossless compression.

    Kingma et al. (2016), arXiv:1606.04934, appendix C.

    >>> Logistic(shape=(1, 2, 2))(torch.zeros(5, 1, 2, 2)).log_prob(torch.full((1, 2, 2), 0.2)).shape
    torch.Size([5])

    Args:
        shape: (C, H, W).
        scale: `learned`, one for each channel, or `pixel`, given by the network for each pixel.
        value: where the scale starts, in units of the pixels, which lie in [0, 1].
    """

    density = True

    def __init__(
        self, shape: tuple[int, ...], scale: Literal["learned", "pixel"] = "learned", value: Positive = 0.1
    ) -> None:
        super().__init__()
        self.shape, self.scale = tuple(shape), scale
        self.param_shape = (2 * shape[0], *shape[1:]) if scale == "pixel" else self.shape
        self.log_scale = nn.Parameter(torch.full((shape[0], 1, 1), math.log(value)))

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., C or 2 C, H, W) -> p(x | z), batch (...), event (C, H, W)."""
        location, extra = params.chunk(2, dim=-3) if self.scale == "pixel" else (params, 0.0)
        log_scale = (self.log_scale + extra).clamp(min=-7.0)  # 1/4 of a grey level
        return distributions.Independent(GreyLogistic(location + 0.5, log_scale.exp()), len(self.shape))
