"""q(z | x) = sum_k w_k N(mean_k, diag(sigma_k^2))."""

from __future__ import annotations

import math

from torch import Tensor, distributions, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily

from vae_lightning.distribution.normal import Normal
from vae_lightning.schema import Count

TRAITS = {"space": "real", "rate": True, "density": True, "strata": True, "factorised": False}
NEEDS = {
    "prior:space": (["real", "any"], "its latents are real vectors: say prior=normal"),
    "loss.estimator": (
        ["standard", "stl", None],
        "its weights have no doubly reparametrised gradient: say loss.estimator=stl",
    ),
}


class StratifiedMixture(MixtureSameFamily):
    """A mixture that is drawn from component by component, so that the draws have a gradient."""

    def stratify(self, samples: int) -> tuple[Tensor, Tensor]:
        """`samples` draws of each of K components (S K, B, D), and log K w_k, what each draw counts, (S K, B)."""
        z = self.component_distribution.rsample((samples,)).movedim(-2, 1).flatten(0, 1)
        log_share = self.mixture_distribution.logits.movedim(-1, 0) + math.log(self._num_component)
        return z, log_share.repeat(samples, *[1] * (log_share.dim() - 1))

    @property
    def mode(self) -> Tensor:
        """The mean of the heaviest component, (B, D)."""
        heaviest = self.mixture_distribution.logits.argmax(-1)[..., None, None]
        means = self.component_distribution.mean
        return means.gather(-2, heaviest.expand(*means.shape[:-2], 1, means.shape[-1])).squeeze(-2)


class Mixture(nn.Module):
    """A mixture of diagonal normal distributions; the network gives weights, means and log-variances.

    Each component is drawn from and counts by its weight: the bound is that of the mixture, and its gradient is exact.
    Roeder et al. (2017), arXiv:1703.09194, section 4.1; Morningstar et al. (2021), arXiv:2003.01687, eq. 6 and 9.

    >>> import torch
    >>> q = Mixture(latent_shape=(2,), components=3)(torch.randn(5, 3, 5))
    >>> z, log_share = q.stratify(4)
    >>> z.shape, log_share.exp().mean(0).allclose(torch.ones(5))
    (torch.Size([12, 5, 2]), True)

    Args:
        latent_shape: (D,).
        components: K; the decoder sees K draws of each image.
    """

    def __init__(self, latent_shape: tuple[int, ...], components: Count = 4) -> None:
        super().__init__()
        self.latent_shape, self.components = tuple(latent_shape), components
        self.param_shape = (components, 2 * latent_shape[0] + 1)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., K, 2 D + 1) -> q, batch (...), event (D,)."""
        (d,) = self.latent_shape
        logits, mean, log_variance = params.split([1, d, d], -1)
        components = Independent(Normal(mean, (log_variance / 2).exp()), 1)
        return StratifiedMixture(Categorical(logits=logits.squeeze(-1)), components)
