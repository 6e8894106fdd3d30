"""What is done otherwise inside of a batched computation, with the same result. Shapes: J jobs, N rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap
from torch.overrides import TorchFunctionMode

from vae_lightning.model import product


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


class Large(Linear):
    """The same for a processor: where oneDNN is faster for a job alone, so are its products one after the other than
    torch's product of batches."""

    generate_vmap_rule = False

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        suits = dims[0] == 0 and dims[1] == 0 and dims[2] in (0, None) and x.dim() == 3
        if suits and (bias is None or dims[2] == 0) and product.large(x[0], weight[0]):
            return Products.apply(x, weight, bias), 0
        return vmap(Linear.apply, dims)(x, weight, bias), 0


class Products(torch.autograd.Function):
    """x (J, N, in), weight (J, out, in), bias (J, out) or None -> (J, N, out), float32, by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _each(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (gradient,) = ctx.saved_tensors, gradients
        by_x, by_weight, by_bias = ctx.needs_input_grad
        times = _by_torch if torch.is_grad_enabled() else _each  # a gradient of the gradient is rare
        return (
            times(gradient, weight.mT) if by_x else None,
            times(gradient.mT, x.mT) if by_weight else None,
            gradient.sum(1) if by_bias else None,
        )


def _by_torch(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.mT


def _each(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    biases = [None] * len(x) if bias is None else bias.unbind()
    return torch.stack([product.product(*each) for each in zip(x.unbind(), weight.unbind(), biases, strict=True)])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    out: Tensor = (Large if x.device.type == "cpu" and x.dim() == 2 else Linear).apply(x, weight, bias)
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
