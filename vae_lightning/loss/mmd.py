"""The maximum mean discrepancy between the aggregate posterior and the prior."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vae_lightning.gather import gather
from vae_lightning.loss.elbo import parts
from vae_lightning.needs import ONE_LATENT, PLAIN_DRAWS, RATE, REAL_OR_SPHERE
from vae_lightning.schema import NonNegative
from vae_lightning.trace import Trace, drawn

NEEDS = {**RATE, **ONE_LATENT, **PLAIN_DRAWS, **REAL_OR_SPHERE}
Kernel = Literal["rbf", "imq"]


def kernel(a: Tensor, b: Tensor, kind: Kernel) -> Tensor:
    """k(a_i, b_j), shape (n, m), for points a (n, D) and b (m, D) of a space where a typical squared distance is 2 D.

    `rbf`: exp(-|a - b|^2 / (2 D)). `imq`: the sum of C / (C + |a - b|^2) over C = 2 D s with seven scales s between
    0.1 and 10, of Tolstikhin et al. (2018), arXiv:1711.01558, section 4 and their code.
    """
    squares = (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)
    typical = 2.0 * a.shape[-1]
    if kind == "rbf":
        return (-squares / typical).exp()
    scales = [s * typical for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
    return torch.stack([scale / (scale + squares) for scale in scales]).sum(0)


def mmd(a: Tensor, b: Tensor, kind: Kernel) -> Tensor:
    """The unbiased estimate of MMD^2 from n points each, a and b (n, D). Gretton et al. (2012), eq. 3 (Lemma 6)."""
    n = len(a)
    if n < 2:
        return 0 * a.sum()
    within = sum((k.sum() - k.diagonal().sum()) / (n * (n - 1)) for k in (kernel(a, a, kind), kernel(b, b, kind)))
    return within - 2 * kernel(a, b, kind).mean()


class MMD(nn.Module):
    """InfoVAE: distortion + (1 - alpha) rate + (alpha + scale - 1) MMD^2. Zhao et al. (2019), arXiv:1706.02262, eq. 6.

    Args:
        alpha: 0 keeps the rate as it is, 1 leaves it out.
        scale: lambda in the paper.
        kernel: `rbf`, or `imq`, see `kernel`.

    >>> MMD(alpha=0.5).alpha
    0.5
    """

    def __init__(self, alpha: NonNegative = 0.5, scale: NonNegative = 100.0, kernel: Kernel = "rbf") -> None:
        super().__init__()
        self.alpha, self.scale, self.kernel = alpha, scale, kernel

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        terms = parts(trace)
        (latent,) = trace.latents
        z = latent.z[0]
        discrepancy = mmd(gather(z), gather(drawn(latent.p, len(z))), self.kernel)
        price = (1 - self.alpha) * terms["rate"] + (self.alpha + self.scale - 1) * discrepancy
        return terms["distortion"] + price, {**terms, "mmd": discrepancy}
