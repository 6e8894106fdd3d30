"""p(x | z) ~ lambda^x (1 - lambda)^(1 - x) on [0, 1]."""

from __future__ import annotations

from torch import Tensor, distributions, nn

from vae_lightning.needs import GREY

TRAITS = {"density": True}
NEEDS = {**GREY}


class ContinuousBernoulli(nn.Module):
    """The cross-entropy of grey pixels, normalised. Loaiza-Ganem and Cunningham (2019), arXiv:1907.06845, eq. 6-8.

    >>> import torch
    >>> ContinuousBernoulli(shape=(1, 2, 2))(torch.zeros(5, 1, 2, 2)).log_prob(torch.full((1, 2, 2), 0.3)).abs().max()
    tensor(0.)

    Args:
        shape: (C, H, W).
    """

    density = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = self.param_shape = tuple(shape)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """logits of lambda (..., C, H, W) -> p(x | z), batch (...), event (C, H, W)."""
        return distributions.Independent(distributions.ContinuousBernoulli(logits=params), len(self.shape))
