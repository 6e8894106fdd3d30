"""What is done otherwise inside of a batched computation, with the same result. Shapes: J jobs, N rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Linear(torch.autograd.Function):
    """x (..., in), weight (out, in), bias (out) -> (..., out).

    The gradient of the weights comes out laid out as they are. torch's own is transposed if there is a batch of
    weights, and would have to be copied for each optimiser.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (gradient,) = ctx.saved_tensors, gradients
        by_x = gradient @ weight if ctx.needs_input_grad[0] else None
        rows = gradient.flatten(0, -2)
        return by_x, rows.mT @ x.flatten(0, -2), rows.sum(0) if ctx.needs_input_grad[2] else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    out: Tensor = Linear.apply(x, weight, bias)
    return out


INSTEAD: dict[Any, Callable[..., Any]] = {
    F.linear: linear,
    Tensor.log_: Tensor.log,  # a tensor does not know here that it has a gradient, for which it must be kept
}


class Batched(TorchFunctionMode):
    """Inside, functions that `vmap` carries out badly are replaced."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return INSTEAD.get(function, function)(*args, **(kwargs or {}))
