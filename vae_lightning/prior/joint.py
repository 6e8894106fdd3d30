"""p(z) = N(0, I) times a uniform categorical variable."""

from __future__ import annotations

from typing import Any

from torch import Tensor, distributions, nn

from vae_lightning.distribution.product import Product
from vae_lightning.prior.categorical import Categorical
from vae_lightning.prior.normal import Normal

TRAITS = {"space": "joint", "learned": False}


class Joint(nn.Module):
    """The prior of numbers and one category. Dupont (2018), arXiv:1804.00104, section 3.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> infer = SimpleNamespace(posterior=SimpleNamespace(sizes=(2, 10)))
    >>> Joint(infer)(torch.zeros(5, 0)).sample((3,)).shape
    torch.Size([3, 12])

    Args:
        infer: the model's own, whose posterior says how many numbers and categories there are.
    """

    def __init__(self, infer: Any) -> None:
        super().__init__()
        numbers, categories = infer.posterior.sizes
        self.numbers, self.category = Normal((numbers,)), Categorical((categories,))

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), event (D + K,): the same for every context."""
        return Product([self.numbers(c), self.category(c)])
