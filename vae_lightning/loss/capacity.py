"""distortion + gamma |rate - capacity|."""

from __future__ import annotations

from torch import Tensor, nn

from vae_lightning.gather import average
from vae_lightning.loss.elbo import parts
from vae_lightning.needs import RATE
from vae_lightning.schema import Analytic, Count, NonNegative
from vae_lightning.trace import Trace

NEEDS = {**RATE}


class Capacity(nn.Module):
    """The rate is led to a capacity that grows while the model trains. Burgess et al. (2018), arXiv:1804.03599, eq. 8.

    Args:
        gamma: weight of the distance between rate and capacity.
        capacity: C, in nats per image.
        samples: draws of z per image.
        analytic: as in `ELBO`.

    >>> Capacity(capacity=25.0).capacity
    25.0
    """

    def __init__(
        self,
        gamma: NonNegative = 100.0,
        capacity: NonNegative = 25.0,
        samples: Count = 1,
        analytic: Analytic = "auto",
    ) -> None:
        super().__init__()
        self.gamma, self.capacity, self.samples, self.analytic = gamma, capacity, samples, analytic

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c, self.samples)
        terms = parts(trace, self.analytic)
        return terms["distortion"] + self.gamma * (average(terms["rate"]) - self.capacity).abs(), terms
