"""Renyi's bound."""

from __future__ import annotations

from torch import Tensor, nn

from vae_lightning.loss.iwae import importance_bound, weigh
from vae_lightning.needs import BOUND
from vae_lightning.schema import Count, Estimator, Fraction
from vae_lightning.trace import Trace

NEEDS = {**BOUND}


class Renyi(nn.Module):
    """The variational Renyi bound, 1 / (1 - alpha) log mean w^(1 - alpha).

    Li and Turner (2016), arXiv:1602.02311, eq. 10.

    Args:
        alpha: 0 is IWAE; 1, the limit, is the ELBO.
        samples: draws of z per image.
        estimator: of the gradient, see `importance_bound`.

    >>> Renyi(alpha=0.5).alpha
    0.5
    """

    def __init__(self, alpha: Fraction = 0.5, samples: Count = 5, estimator: Estimator = "standard") -> None:
        super().__init__()
        self.alpha, self.samples, self.estimator = alpha, samples, estimator

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c, self.samples)
        log_w, terms = weigh(trace, self.estimator)
        if self.alpha == 1:
            return -trace.expect(log_w).mean(), terms
        return -importance_bound(trace, log_w, power=1 - self.alpha, estimator=self.estimator).mean(), terms
