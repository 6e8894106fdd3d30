"""q(z | x) = N(mean, diag(sigma^2)) times a categorical variable."""

from __future__ import annotations

from torch import Tensor, distributions, nn

from vae_lightning.distribution.product import Product
from vae_lightning.posterior.gumbel import Gumbel
from vae_lightning.posterior.normal import Normal
from vae_lightning.schema import Count, Positive

TRAITS = {"space": "joint", "rate": True, "density": False, "strata": False, "factorised": False}
NEEDS = {"prior:space": (["joint"], "its latents are numbers and a one-hot vector: say prior=joint")}


class Joint(nn.Module):
    """Numbers and one categorical variable, independent given x. Dupont (2018), arXiv:1804.00104, section 3.

    >>> import torch
    >>> q = Joint(latent_shape=(2,), categories=10)(torch.zeros(5, 14))
    >>> q.rsample((3,)).shape
    torch.Size([3, 5, 12])

    Args:
        latent_shape: (D,): how many numbers; z has D + K entries.
        categories: K.
        temperature: of the relaxation.
        straight_through: one-hot draws in training too.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        categories: Count = 10,
        temperature: Positive = 0.5,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        self.numbers = Normal(latent_shape)
        self.category = Gumbel((), categories, temperature, straight_through)
        self.sizes = (*latent_shape, categories)
        self.latent_shape = (sum(self.sizes),)
        self.param_shape = (2 * latent_shape[0] + categories,)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., 2 D + K) -> q, batch (...), event (D + K,)."""
        numbers, logits = params.split([2 * self.sizes[0], self.sizes[1]], -1)
        return Product([self.numbers(numbers), self.category(logits)])
