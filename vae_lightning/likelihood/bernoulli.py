"""p(x | z): independent binary pixels."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
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


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """The sum of log(1 + e^l) - x l over the last dimension, in nats: logits l (..., D) and x, which may have fewer
    dimensions before D, -> (...).

    With s = sigmoid(|l|), which lies in [1/2, 1), it is the sum of max(l, 0) - x l, less the logarithm of the product
    of all s: a sigmoid for each number, and one logarithm for up to 32 of them.

    >>> cross_entropy(torch.zeros(8), torch.ones(8)) / math.log(2)
    tensor(8.)
    """
    magnitudes = logits.abs()
    products = magnitudes.sigmoid().unflatten(-1, (math.gcd(logits.shape[-1], 32), -1)).prod(-2)
    twice = torch.addcmul(magnitudes, logits, torch.rsub(x, 1, alpha=2))  # 2 max(l, 0) - 2 x l
    return twice.sum(-1) / 2 - products.log_().sum(-1)


class CrossEntropy(torch.autograd.Function):
    """`cross_entropy`, and its gradient from one sigmoid: both together take half the time of torch's own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, x: Tensor) -> Tensor:
        return cross_entropy(logits, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, x = ctx.saved_tensors
        gradient = gradients[0].unsqueeze(-1)
        by_x = (-gradient * logits).sum_to_size(x.shape) if ctx.needs_input_grad[1] else None
        return (logits.sigmoid() - x) * gradient, by_x


# torch reads it in each call, which takes longer than the whole way there.
CrossEntropy.forward.__signature__ = inspect.signature(CrossEntropy.forward)  # type: ignore[attr-defined]


class BinaryImage(distributions.Independent):
    """`Independent(Bernoulli(logits))` whose density takes few passes over the pixels."""

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        super().__init__(distributions.Bernoulli(logits=logits), event_dims)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, shape (*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        dims = self.reinterpreted_batch_ndims
        logits, value = self.base_dist.logits.flatten(-dims), value.flatten(-dims)
        shape = torch.broadcast_shapes(logits.shape, value.shape)
        found: Tensor = CrossEntropy.apply(logits.expand(shape), value)  # many draws of z share an image
        return -found


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
