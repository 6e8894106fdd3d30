"""The Wasserstein autoencoder with a discrepancy."""

from __future__ import annotations

from torch import Tensor, nn

from vae_lightning.gather import gather
from vae_lightning.loss.elbo import parts
from vae_lightning.loss.mmd import Kernel, mmd
from vae_lightning.needs import FIXED_PRIOR, ONE_LATENT, PLAIN_DRAWS, REAL_OR_SPHERE
from vae_lightning.schema import NonNegative
from vae_lightning.trace import Trace, drawn

NEEDS = {**ONE_LATENT, **PLAIN_DRAWS, **REAL_OR_SPHERE, **FIXED_PRIOR}


class WAEMMD(nn.Module):
    """distortion + scale MMD^2(q(z), p(z)). Tolstikhin et al. (2018), arXiv:1711.01558, eq. 4 and algorithm 2.

    The paper's encoder is deterministic (posterior=point) and its cost a squared error (likelihood=mse).

    Args:
        scale: lambda in the paper.
        kernel: `imq`, the paper's, or `rbf`.

    >>> WAEMMD(scale=10.0).scale
    10.0
    """

    def __init__(self, scale: NonNegative = 10.0, kernel: Kernel = "imq") -> None:
        super().__init__()
        self.scale, self.kernel = scale, kernel

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        terms = parts(trace)
        (latent,) = trace.latents
        z = latent.z[0]
        discrepancy = mmd(gather(z), gather(drawn(latent.p, len(z))), self.kernel)
        return terms["distortion"] + self.scale * discrepancy, {**terms, "mmd": discrepancy}
