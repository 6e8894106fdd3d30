"""q(z | x) on the unit sphere."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, distributions, nn

from vae_lightning.distribution.sphere import VonMisesFisher as Distribution
from vae_lightning.schema import NonNegative

TRAITS = {"space": "sphere", "rate": True, "density": True, "strata": False, "factorised": False}
NEEDS = {"prior:space": (["sphere", "any"], "its latents lie on a sphere: say prior=uniform_sphere")}


class VonMisesFisher(nn.Module):
    """Hyperspherical latents. Davidson et al. (2018), arXiv:1804.00891, section 3.

    The network gives a direction and a concentration. Draws are made by rejection; their gradient is that of the
    distribution function (implicit reparametrisation), and so has no correction term.

    >>> import torch
    >>> q = VonMisesFisher(latent_shape=(3,))(torch.ones(5, 4))
    >>> q.rsample((7,)).norm(dim=-1).allclose(torch.ones(7, 5))
    True

    Args:
        latent_shape: (D,), at least 2: z has D coordinates and D - 1 degrees of freedom.
        min_kappa: the least concentration.

    Raises:
        ValueError: D is 1.
    """

    def __init__(self, latent_shape: tuple[int, ...], min_kappa: NonNegative = 1.0) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        (d,) = self.latent_shape
        if d < 2:
            raise ValueError(f"model.latent_dim={d}: a sphere needs at least 2 dimensions")
        self.param_shape, self.min_kappa = (d + 1,), min_kappa

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., D + 1) -> q, batch (...), event (D,)."""
        kappa = F.softplus(params[..., -1]) + self.min_kappa + 1e-3
        return Distribution(F.normalize(params[..., :-1], dim=-1), kappa)
