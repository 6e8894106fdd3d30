"""q(z | x) = N(mean, diag(sigma^2))."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, distributions, nn

from vae_lightning.distribution import normal

TRAITS = {"space": "real", "rate": True, "density": True, "strata": False, "factorised": True}
NEEDS = {"prior:space": (["real", "any"], "its latents are real vectors: say prior=normal")}
SCALES = {"log_variance": lambda s: (s / 2).exp(), "exp": lambda s: s.exp(), "softplus": F.softplus}


class Normal(nn.Module):
    """A diagonal normal distribution. Kingma and Welling (2014), arXiv:1312.6114, eq. 9.

    >>> import torch
    >>> q = Normal(latent_shape=(2,))(torch.zeros(5, 4))
    >>> q.batch_shape, q.event_shape, q.stddev[0]
    (torch.Size([5]), torch.Size([2]), tensor([1., 1.]))

    Args:
        latent_shape: (D,) or (D, h, w).
        scale: what the second half of the parameters is: the logarithm of sigma^2 (`log_variance`), of sigma (`exp`),
            or a number whose softplus is sigma (`softplus`).
    """

    def __init__(
        self, latent_shape: tuple[int, ...], scale: Literal["log_variance", "exp", "softplus"] = "log_variance"
    ) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.param_shape = (2 * latent_shape[0], *latent_shape[1:])
        self.scale = SCALES[scale]

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., 2 D, h, w) -> q, batch (...), event (D, h, w)."""
        dims = len(self.latent_shape)
        mean, scale = params.chunk(2, dim=-dims)
        return distributions.Independent(normal.Normal(mean, self.scale(scale)), dims)
