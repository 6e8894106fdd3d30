"""The small parts that all networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_lightning.schema import Activation, Norm

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activation(name: Activation, negative_slope: float = 0.01) -> nn.Module:
    """The activation function `name`; `negative_slope` is that of `leaky_relu`."""
    return nn.LeakyReLU(negative_slope) if name == "leaky_relu" else _ACTIVATIONS[name]()


def norm(name: Norm, channels: int, image: bool) -> nn.Module:
    """The normalisation `name` of vectors, or of images, with that many channels."""
    if name == "batch":
        return nn.BatchNorm2d(channels) if image else nn.BatchNorm1d(channels)
    if name == "layer":
        return nn.GroupNorm(1, channels)
    if name == "group":
        return nn.GroupNorm(next(g for g in range(min(8, channels), 0, -1) if channels % g == 0), channels)
    return nn.Identity()


def with_context(h: Tensor, c: Tensor) -> Tensor:
    """h (N, F), c (N, C) -> (N, F + C); C may be zero."""
    return torch.cat([h, c], -1) if c.shape[-1] else h


def rows(x: Tensor, c: Tensor, event_dims: int) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """All leading dimensions as one: x (S, B, *event), c (B, C) -> x (N, *event), c (N, C), (S, B)."""
    lead = tuple(x.shape[: x.dim() - event_dims])
    c = c.expand(*lead, c.shape[-1]).reshape(-1, c.shape[-1]) if c.shape[-1] else c
    return (x if len(lead) == 1 else x.flatten(0, len(lead) - 1)), c, lead
