"""p(z): independent categorical variables."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn

TRAITS = {"space": "one_hot", "learned": False}


class Categorical(nn.Module):
    """Uniform one-hot vectors, or with learned weights. Jang et al. (2017), arXiv:1611.01144, section 2.

    >>> Categorical(latent_shape=(2, 4))(torch.zeros(5, 0)).log_prob(torch.eye(4)[:2])  # -2 log 4 nats
    tensor(-2.7726)

    Args:
        latent_shape: (N, K).
        learned: the weights of the categories are trained.
    """

    def __init__(self, latent_shape: tuple[int, ...], learned: bool = False) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(latent_shape), requires_grad=learned)

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), event (N, K): the same for every context."""
        one_hot = distributions.OneHotCategorical(logits=self.logits)
        return distributions.Independent(one_hot, self.logits.dim() - 1)
