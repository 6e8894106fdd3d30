"""p(z): uniform on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn

from vae_lightning.distribution.sphere import UniformSphere as Distribution

TRAITS = {"space": "sphere", "learned": False}


class UniformSphere(nn.Module):
    """The uniform distribution on the unit sphere. Davidson et al. (2018), arXiv:1804.00891, section 3.2.

    >>> UniformSphere(latent_shape=(3,))(torch.zeros(5, 0)).log_prob(torch.tensor([1.0, 0.0, 0.0]))  # -log 4 pi nats
    tensor(-2.5310)

    Args:
        latent_shape: (D,).
    """

    like: Tensor

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(latent_shape), persistent=False)

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), event (D,): the same for every context."""
        return Distribution(self.like)
