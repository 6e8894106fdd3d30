"""p(z) = N(0, I)."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn

TRAITS = {"space": "real", "learned": False}


class Normal(nn.Module):
    """The standard normal prior.

    >>> p = Normal(latent_shape=(2,))(torch.zeros(5, 0))
    >>> p.log_prob(torch.zeros(2))  # -log 2 pi nats
    tensor(-1.8379)

    Args:
        latent_shape: (D,) or (D, h, w).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_shape), persistent=False)
        self.register_buffer("scale", torch.ones(latent_shape), persistent=False)

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), event (D, h, w): the same for every context."""
        return distributions.Independent(distributions.Normal(self.mean, self.scale), self.mean.dim())
