"""Products of matrices on processors for which torch's own library leaves half of the speed unused."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

LARGE = 2**23  # multiplications: 32 x 512 x 512; below, the way there takes longer than is gained


class Linear(nn.Linear):
    """torch's own, computed by oneDNN where that is faster. The same but for rounding; parameters are the same.

    >>> Linear(3, 2)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        if _observed(x) or not large(x, self.weight):
            return F.linear(x, self.weight, self.bias)
        out: Tensor = Product.apply(x, self.weight, self.bias)
        return out


class Product(torch.autograd.Function):
    """x (N, in), weight (out, in), bias (out) or None -> (N, out), all float32, by oneDNN.

    Without `setup_context`, which `torch.func` needs, and for which torch reads the signature in each call.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (gradient,) = ctx.saved_tensors, gradients
        by_x, by_weight, by_bias = ctx.needs_input_grad
        times = Product.apply if torch.is_grad_enabled() else product  # a gradient of the gradient is rare
        return (
            times(gradient, weight.t(), None) if by_x else None,
            times(gradient.t(), x.t(), None) if by_weight else None,
            gradient.sum(0) if by_bias else None,
        )


def large(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is faster for x (N, in) and weight (out, in)."""
    if x.device.type != "cpu" or x.dtype is not torch.float32 or x.dim() != 2 or not faster():
        return False
    return len(x) * weight.numel() >= LARGE


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """oneDNN's, without a gradient."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _observed(x: Tensor) -> bool:
    """Whether more is asked for than the numbers: several models at once, a graph, another precision."""
    return has_torch_function_unary(x) or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")


@cache
def faster() -> bool:
    """On AMD's processors with AVX-512, of which MKL, which torch takes for its products, uses the older half."""
    capabilities = torch.cpu.get_capabilities()
    wide_amd = "AMD" in str(capabilities.get("cpu_name")) and capabilities.get("avx512_f")
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return bool(wide_amd) and libraries and hasattr(torch.ops.mkldnn, "_linear_pointwise")
