"""p(x | z): independent binary pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, distributions, nn

from vae_lightning.needs import PIXELS

TRAITS = {"density": True}
NEEDS = {
    **PIXELS,
    "data.binarize": (
        ["dynamic", "static", "threshold"],
        "a Bernoulli gives grey pixels no density: say data.binarize=dynamic or likelihood=cross_entropy",
    ),
}


class BinaryImage(distributions.Independent):
    """`Independent(Bernoulli(logits))` that sums before it changes the sign: two passes less over all pixels."""

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        super().__init__(distributions.Bernoulli(logits=logits), event_dims)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, shape (*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        logits, value = torch.broadcast_tensors(self.base_dist.logits, value)
        dims = self.reinterpreted_batch_ndims
        if logits.requires_grad:
            return -F.binary_cross_entropy_with_logits(logits, value, reduction="none").flatten(-dims).sum(-1)
        logits, value = logits.flatten(-dims), value.flatten(-dims)
        return torch.linalg.vecdot(logits, value) - sum_softplus(logits)


def sum_softplus(x: Tensor) -> Tensor:
    """The sum of log(1 + e^x) over the last dimension, with one logarithm for up to 32 numbers: 5 times as fast.

    >>> sum_softplus(torch.zeros(8)) / math.log(2)
    tensor(8.)
    """
    together = math.gcd(x.shape[-1], 32)  # each factor lies in (1, 2]
    products = x.abs().neg_().exp_().add_(1).unflatten(-1, (-1, together)).prod(-1)
    return x.clamp(min=0).sum(-1) + products.log().sum(-1)


class Bernoulli(nn.Module):
    """Binary pixels with the network's outputs as logits.

    >>> p = Bernoulli(shape=(1, 2, 2))(torch.zeros(5, 1, 2, 2))
    >>> p.log_prob(torch.ones(1, 2, 2))[0]  # 4 log(1/2) nats
    tensor(-2.7726)

    Args:
        shape: (C, H, W).
    """

    density = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = self.param_shape = tuple(shape)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """logits (..., C, H, W) -> p(x | z), batch (...), event (C, H, W)."""
        return BinaryImage(params, len(self.param_shape))
