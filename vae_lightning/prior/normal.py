"""p(z) = N(0, I)."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn
from torch.distributions import register_kl

from vae_lightning.distribution import normal

TRAITS = {"space": "real", "learned": False}


class StandardNormal(normal.Normal):
    """N(0, 1). Its own KL from a normal distribution takes half of the operations, which a small network notices."""


@register_kl(distributions.Normal, StandardNormal)
def _kl_normal_standard(q: distributions.Normal, p: StandardNormal) -> Tensor:
    """Kingma and Welling (2014), appendix B, in nats; the shape of q's batch."""
    squares = torch.addcmul(q.scale.square(), q.loc, q.loc)
    return torch.add(squares, q.scale.log(), alpha=-2).sub(1).div(2)


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
        return distributions.Independent(StandardNormal(self.mean, self.scale), self.mean.dim())
