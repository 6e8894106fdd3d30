"""p(x | z): independent binary pixels."""

from __future__ import annotations

from torch import Tensor, distributions, nn

NEEDS = {
    "data.binarize": (
        ["dynamic", "static", "threshold"],
        "a Bernoulli gives grey pixels no density: say data.binarize=dynamic or likelihood=cross_entropy",
    )
}


class Bernoulli(nn.Module):
    """Binary pixels with the network's outputs as logits.

    >>> import torch
    >>> p = Bernoulli(shape=(1, 2, 2))(torch.zeros(5, 1, 2, 2))
    >>> p.log_prob(torch.ones(1, 2, 2))[0]  # 4 log(1/2) nats
    tensor(-2.7726)

    Args:
        shape: (C, H, W).
    """

    density = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.param_shape = tuple(shape)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """logits (..., C, H, W) -> p(x | z), batch (...), event (C, H, W)."""
        return distributions.Independent(distributions.Bernoulli(logits=params), len(self.param_shape))
