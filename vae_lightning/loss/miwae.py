"""Several importance-weighted bounds, averaged."""

from __future__ import annotations

from torch import Tensor, nn

from vae_lightning.loss.iwae import importance_bound, weigh
from vae_lightning.needs import BOUND
from vae_lightning.schema import Count, Estimator
from vae_lightning.trace import Trace

NEEDS = {**BOUND}


class MIWAE(nn.Module):
    """The mean of `groups` bounds of `samples` draws each. Rainforth et al. (2018), arXiv:1802.04537, eq. 8.

    Args:
        groups: M.
        samples: K, draws of z per image in each group.
        estimator: of the gradient, see `importance_bound`.

    >>> MIWAE(groups=8, samples=8).groups
    8
    """

    def __init__(self, groups: Count = 4, samples: Count = 4, estimator: Estimator = "standard") -> None:
        super().__init__()
        self.groups, self.samples, self.estimator = groups, samples, estimator

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c, self.groups * self.samples)
        log_w, terms = weigh(trace, self.estimator)
        return -importance_bound(trace, log_w, self.groups, estimator=self.estimator).mean(), terms
