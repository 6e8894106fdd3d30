"""p(x | z): any distribution over 256 grey levels, for each pixel."""

from __future__ import annotations

from torch import Tensor, distributions, nn

from vae_lightning.distribution.grey import LEVELS, GreyCategorical
from vae_lightning.needs import GREY

TRAITS = {"density": True}
NEEDS = {**GREY}


class Categorical(nn.Module):
    """A 256-way softmax for each pixel. van den Oord et al. (2016), arXiv:1601.06759, section 3.

    >>> import torch
    >>> Categorical(shape=(1, 2, 2))(torch.zeros(5, 256, 2, 2)).log_prob(torch.zeros(1, 2, 2))[0]  # -4 log 256 nats
    tensor(-22.1807)

    Args:
        shape: (C, H, W).
    """

    density = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.param_shape = (LEVELS * shape[0], *shape[1:])

    def forward(self, params: Tensor) -> distributions.Distribution:
        """logits (..., 256 C, H, W) -> p(x | z), batch (...), event (C, H, W)."""
        logits = params.unflatten(-3, (self.shape[0], LEVELS)).movedim(-3, -1)
        return distributions.Independent(GreyCategorical(logits), len(self.shape))
