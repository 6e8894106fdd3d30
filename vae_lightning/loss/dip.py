"""The covariance of the aggregate posterior is led to the identity."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vae_lightning.gather import average, gather
from vae_lightning.loss.elbo import parts
from vae_lightning.needs import FACTORISED, ONE_LATENT
from vae_lightning.schema import NonNegative
from vae_lightning.trace import Latent, Trace

NEEDS = {**FACTORISED, **ONE_LATENT}


def covariance(latent: Latent, kind: Literal["i", "ii"]) -> Tensor:
    """Of the means of the posteriors (i), or of z itself (ii), over the minibatch, shape (D, D).

    Kumar et al. (2018), arXiv:1711.00848, eq. 5: Cov z = E Cov(z|x) + Cov E(z|x), the first of which is diagonal.
    """
    means = gather(latent.q.mean)
    away = means - means.mean(0)
    found = away.T @ away / len(means)  # torch's own asks the device whether its weights are integers
    return found + torch.diag(average(latent.q.variance.mean(0))) if kind == "ii" else found


class DIP(nn.Module):
    """DIP-VAE I and II. Kumar et al. (2018), arXiv:1711.00848, eq. 6 and 7.

    Args:
        beta: weight of the rate.
        kind: `i`, the covariance of the means, or `ii`, of z.
        off_diagonal: weight of the squared covariances.
        diagonal: weight of the squared distances of the variances from 1.

    >>> DIP(kind="ii").kind
    'ii'
    """

    def __init__(
        self,
        beta: NonNegative = 1.0,
        kind: Literal["i", "ii"] = "i",
        off_diagonal: NonNegative = 10.0,
        diagonal: NonNegative = 100.0,
    ) -> None:
        super().__init__()
        self.beta, self.kind, self.off_diagonal, self.diagonal = beta, kind, off_diagonal, diagonal

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        terms = parts(trace)
        cov = covariance(trace.latents[0], self.kind)
        diagonal = cov.diagonal()
        off = cov.square().sum() - diagonal.square().sum()
        penalty = self.off_diagonal * off + self.diagonal * (diagonal - 1).square().sum()
        return terms["distortion"] + self.beta * terms["rate"] + penalty, {**terms, "covariance": penalty}
