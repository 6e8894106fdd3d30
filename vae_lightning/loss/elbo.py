"""distortion + beta * rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Independent, kl_divergence

from vae_lightning.schema import Count, NonNegative
from vae_lightning.trace import Latent, Trace


class ELBO(nn.Module):
    """The negative evidence lower bound with a weight on the rate.

    Kingma and Welling (2014), arXiv:1312.6114, eq. 7; the weight is Higgins et al. (2017), "beta-VAE", eq. 4. Both
    parts are in nats per image: summed over pixels and latents, averaged over samples and images.

    Args:
        beta: weight of the rate; 1 gives the bound itself.
        samples: draws of z per image.
        analytic: the rate in closed form; otherwise it is estimated from the draws.
        free_bits: nats per latent dimension that cost nothing: a dimension's mean rate counts as at least so much.
            Kingma et al. (2016), arXiv:1606.04934, eq. 15. The reported rate is the true one.

    >>> ELBO(beta=4.0).beta
    4.0
    """

    def __init__(
        self, beta: NonNegative = 1.0, samples: Count = 1, analytic: bool = True, free_bits: NonNegative = 0.0
    ) -> None:
        super().__init__()
        self.beta, self.samples, self.analytic, self.free_bits = beta, samples, analytic, free_bits

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c, self.samples)
        distortion = -trace.log_likelihood().mean()
        rates = [self.rate(latent) for latent in trace.latents]
        rate = torch.stack([r for r, _ in rates]).sum() if len(rates) > 1 else rates[0][0]
        price = sum(p for _, p in rates)
        return distortion + self.beta * price, {"distortion": distortion, "rate": rate}

    def rate(self, latent: Latent) -> tuple[Tensor, Tensor]:
        """E KL(q || p) in nats per image, and what is charged for it."""
        if self.free_bits == 0:
            rate = kl_divergence(latent.q, latent.p) if self.analytic else latent.log_ratio()
            rate = rate.mean()
            return rate, rate
        q, p = _each_dimension(latent.q), _each_dimension(latent.p)
        each = kl_divergence(q, p) if self.analytic else q.log_prob(latent.z) - p.log_prob(latent.z)
        each = each.flatten(0, each.dim() - len(latent.q.event_shape) - 1).mean(0)
        return each.sum(), each.clamp(min=self.free_bits).sum()


def _each_dimension(distribution: torch.distributions.Distribution) -> torch.distributions.Distribution:
    if not isinstance(distribution, Independent):
        raise ValueError(
            "free bits are counted per latent dimension, and these are not independent: say loss.free_bits=0"
        )
    return distribution.base_dist
