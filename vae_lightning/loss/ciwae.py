"""Between the ELBO and the importance-weighted bound."""

from __future__ import annotations

from torch import Tensor, nn

from vae_lightning.loss.iwae import scale_gradient, weigh
from vae_lightning.needs import BOUND
from vae_lightning.schema import Count, Estimator, Fraction
from vae_lightning.trace import Trace

NEEDS = {**BOUND}


class CIWAE(nn.Module):
    """mix ELBO + (1 - mix) IWAE. Rainforth et al. (2018), arXiv:1802.04537, section 4, eq. 11.

    Args:
        mix: beta in the paper; 1 is the ELBO, 0 is IWAE.
        samples: draws of z per image.
        estimator: of the gradient, as in `importance_bound`. The paths through a draw with normalised weight v count
            mix / K + (1 - mix) v^2 in `dreg`.

    >>> CIWAE(mix=0.05).mix
    0.05
    """

    def __init__(self, mix: Fraction = 0.5, samples: Count = 8, estimator: Estimator = "standard") -> None:
        super().__init__()
        self.mix, self.samples, self.estimator = mix, samples, estimator

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c, self.samples)
        log_w, terms = weigh(trace, self.estimator)
        if self.estimator == "dreg":
            v, even = log_w.detach().softmax(0), self.mix / len(log_w)
            stl = even + (1 - self.mix) * v
            scale_gradient(trace, (even + (1 - self.mix) * v.square()) / stl.clamp(min=1e-30))
        bound = self.mix * trace.expect(log_w) + (1 - self.mix) * trace.log_mean_exp(log_w)[0]
        return -bound.mean(), terms
