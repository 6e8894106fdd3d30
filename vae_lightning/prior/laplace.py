"""p(z) = Laplace(0, b)."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn

from vae_lightning.schema import Positive

TRAITS = {"space": "real", "learned": False}


class Laplace(nn.Module):
    """Independent Laplace distributions around 0: sparse latents. Barello et al. (2018), 10.1101/399246.

    >>> Laplace(latent_shape=(2,), scale=1.0)(torch.zeros(5, 0)).log_prob(torch.zeros(2))  # -2 log 2 nats
    tensor(-1.3863)

    Args:
        latent_shape: (D,).
        scale: b, in units of z; 0.707 has variance 1.
    """

    location: Tensor

    def __init__(self, latent_shape: tuple[int, ...], scale: Positive = 0.7071067811865476) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("location", torch.zeros(latent_shape), persistent=False)

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), event (D,): the same for every context."""
        scale = torch.full_like(self.location, self.scale)
        return distributions.Independent(distributions.Laplace(self.location, scale), self.location.dim())
