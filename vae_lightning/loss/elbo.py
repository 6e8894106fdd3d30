"""distortion + beta * rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vae_lightning.gather import average
from vae_lightning.needs import RATE
from vae_lightning.schema import Analytic, Count, NonNegative
from vae_lightning.trace import Latent, Trace

NEEDS = {**RATE}


def parts(trace: Trace, analytic: Analytic = "auto") -> dict[str, Tensor]:
    """The distortion and, where the posterior has one, the rate: scalars, in nats per image."""
    terms = {"distortion": -trace.expect(trace.log_likelihood()).mean()}
    if all(getattr(latent.q, "has_rate", True) for latent in trace.latents):
        terms["rate"] = trace.rate(analytic).mean()
    return terms


class ELBO(nn.Module):
    """The negative evidence lower bound with a weight on the rate.

    Kingma and Welling (2014), arXiv:1312.6114, eq. 7; the weight is Higgins et al. (2017), "beta-VAE", eq. 4. Both
    parts are in nats per image: summed over pixels and latents, averaged over samples and images.

    Args:
        beta: weight of the rate; 1 gives the bound itself.
        samples: draws of z per image.
        analytic: the rate in closed form (true), estimated from the draws (false), or in closed form where there is
            one (auto).
        free_bits: nats per latent dimension that cost nothing: a dimension's mean rate counts as at least so much.
            Kingma et al. (2016), arXiv:1606.04934, eq. 15. The reported rate is the true one.

    >>> ELBO(beta=4.0).beta
    4.0
    """

    def __init__(
        self,
        beta: NonNegative = 1.0,
        samples: Count = 1,
        analytic: Analytic = "auto",
        free_bits: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        self.beta, self.samples, self.analytic, self.free_bits = beta, samples, analytic, free_bits

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c, self.samples)
        terms = parts(trace, self.analytic)
        price = terms["rate"]
        if self.free_bits > 0:
            price = torch.stack([self._price(trace, latent) for latent in trace.latents]).sum()
        return terms["distortion"] + self.beta * price, terms

    def _price(self, trace: Trace, latent: Latent) -> Tensor:
        """What is charged for the rate, in nats per image, when each dimension counts as at least `free_bits`."""
        each = Latent(_each_dimension(latent.q), _each_dimension(latent.p), latent.z, latent.constant_q)
        rate = each.rate(self.analytic)
        dims = len(latent.q.event_shape)
        return average(rate.flatten(0, rate.dim() - dims - 1).mean(0)).clamp(min=self.free_bits).sum()


def _each_dimension(distribution: Distribution) -> Distribution:
    if not isinstance(distribution, Independent):
        raise ValueError(
            "free bits are counted per latent dimension, and these are not independent: say loss.free_bits=0"
        )
    return distribution.base_dist
