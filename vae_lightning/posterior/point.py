"""z is a function of x: an autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn
from torch.distributions import constraints
from torch.types import _size

TRAITS = {"space": "real", "rate": False, "density": False, "strata": False, "factorised": False}
NEEDS = {"prior:space": (["real", "any"], "its latents are real vectors: say prior=normal")}


class Point(distributions.Distribution):
    """All mass on `z` (B, *latent). It has no density, and so no rate."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real
    has_rsample, has_rate = True, False

    def __init__(self, z: Tensor, event_dims: int) -> None:
        self.z = z
        split = z.dim() - event_dims
        super().__init__(z.shape[:split], z.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.z

    @property
    def mode(self) -> Tensor:
        return self.z

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.z)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """z, as often as asked for."""
        return self.z.expand(*sample_shape, *self.z.shape)


class PointMass(nn.Module):
    """The network's output itself: a plain autoencoder. Hinton and Salakhutdinov (2006), 10.1126/science.1127647.

    >>> PointMass(latent_shape=(2,))(torch.ones(5, 2)).rsample((3,)).shape
    torch.Size([3, 5, 2])

    Args:
        latent_shape: (D,).
    """

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.latent_shape = self.param_shape = tuple(latent_shape)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., D) -> q, batch (...), event (D,)."""
        return Point(params, len(self.latent_shape))
