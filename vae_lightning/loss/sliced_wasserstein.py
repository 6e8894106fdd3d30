"""The sliced Wasserstein distance between the aggregate posterior and the prior."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_lightning.gather import gather, shared
from vae_lightning.loss.elbo import parts
from vae_lightning.needs import FIXED_PRIOR, ONE_LATENT, PLAIN_DRAWS, REAL_OR_SPHERE
from vae_lightning.schema import Count, NonNegative
from vae_lightning.trace import Trace, drawn

NEEDS = {**ONE_LATENT, **PLAIN_DRAWS, **REAL_OR_SPHERE, **FIXED_PRIOR}


def sliced(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """The mean over `directions` (L, D), of length 1, of W_2^2 between the projections of a and b (n, D).

    Kolouri et al. (2018), arXiv:1804.01947, eq. 11: in one dimension the optimal map sorts.
    """
    first, second = ((points @ directions.T).sort(0).values for points in (a, b))
    return (first - second).square().mean()


class SlicedWasserstein(nn.Module):
    """distortion + scale SW_2^2(q(z), p(z)). Kolouri et al. (2018), arXiv:1804.01947, eq. 13.

    Args:
        scale: lambda in the paper.
        directions: L, drawn anew for each minibatch.

    >>> SlicedWasserstein(directions=50).directions
    50
    """

    def __init__(self, scale: NonNegative = 10.0, directions: Count = 50) -> None:
        super().__init__()
        self.scale, self.directions = scale, directions

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        terms = parts(trace)
        (latent,) = trace.latents
        z = latent.z[0]
        directions = F.normalize(shared(torch.randn_like(z[:1].expand(self.directions, -1))), dim=-1)
        distance = sliced(gather(z), gather(drawn(latent.p, len(z))), directions)
        return terms["distortion"] + self.scale * distance, {**terms, "sliced_wasserstein": distance}
