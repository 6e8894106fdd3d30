"""q(z | x): independent categorical variables, relaxed in training."""

from __future__ import annotations

from torch import Tensor, distributions, nn
from torch.distributions import Independent

from vae_lightning.distribution.one_hot import RelaxedOneHot
from vae_lightning.schema import Count, Positive

TRAITS = {"space": "one_hot", "rate": True, "density": False, "strata": False, "factorised": False}
NEEDS = {"prior:space": (["one_hot"], "its latents are one-hot vectors: say prior=categorical")}


class Gumbel(nn.Module):
    """Categorical latents by the Gumbel-softmax. Jang et al. (2017), arXiv:1611.01144, eq. 2.

    The rate is that of the categorical distributions, in closed form. In validation and test, draws are one-hot, so
    that what is reported is a bound.

    >>> import torch
    >>> q = Gumbel(latent_shape=(20,), categories=10)(torch.zeros(5, 20, 10))
    >>> q.rsample((3,)).shape, q.sample().sum(-1).unique()
    (torch.Size([3, 5, 20, 10]), tensor([1.]))

    Args:
        latent_shape: (N,): how many variables.
        categories: K of each.
        temperature: of the relaxation.
        straight_through: one-hot draws in training too, with the gradient of the relaxed ones.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        categories: Count = 10,
        temperature: Positive = 0.5,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        self.latent_shape = self.param_shape = (*latent_shape, categories)
        self.temperature, self.straight_through = temperature, straight_through

    def forward(self, params: Tensor) -> distributions.Distribution:
        """logits (..., N, K) -> q, batch (...), event (N, K)."""
        one_hot = RelaxedOneHot(self.temperature, params, self.straight_through)
        return Independent(one_hot, len(self.latent_shape) - 1)
