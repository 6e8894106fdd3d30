"""The small parts that all networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_lightning.schema import Gated, Norm

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activation(name: Gated, negative_slope: float = 0.01, image: bool = False) -> nn.Module:
    """The activation function `name`; `negative_slope` is that of `leaky_relu`.

    `glu` halves its input, the numbers of a vector or the channels of an image: a sigmoid of one half gates the other.
    Dauphin et al. (2017), arXiv:1612.08083, eq. 1; layers before it give twice as much, see `twice`.
    """
    if name == "glu":
        return nn.GLU(1 if image else -1)
    return nn.LeakyReLU(negative_slope) if name == "leaky_relu" else _ACTIVATIONS[name]()


def twice(name: Gated, width: int) -> int:
    """What a layer must give so that its activation leaves `width`."""
    return 2 * width if name == "glu" else width


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


class Dense(nn.Module):
    """With the context, linearly from one shape to another; between images of one size, from pixel to pixel."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], n_context: int = 0) -> None:
        super().__init__()
        self.in_dims, self.out_shape = len(in_shape), tuple(out_shape)
        self.grid = in_shape[1:] if len(in_shape) == 3 and in_shape[1:] == out_shape[1:] else None
        if self.grid is None:
            self.linear: nn.Module = nn.Linear(math.prod(in_shape) + n_context, math.prod(out_shape))
        else:
            self.linear = nn.Conv2d(in_shape[0] + n_context, out_shape[0], 1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (N, *in_shape), c (N, n_context) -> (N, *out_shape)."""
        if self.grid is None:
            return self.linear(with_context(x.flatten(1), c)).unflatten(1, self.out_shape)
        c = c[..., None, None].expand(*c.shape, *self.grid)
        return self.linear(torch.cat([x, c], 1))


class ImageEncoder(nn.Module):
    """An image through `trunk`, which makes it `small`, then, with the context, linearly to any shape."""

    def __init__(
        self, trunk: nn.Module, small: tuple[int, ...], out_shape: tuple[int, ...], n_context: int = 0
    ) -> None:
        super().__init__()
        self.trunk, self.out = trunk, Dense(small, out_shape, n_context)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (..., C, H, W), c (B, n_context) -> (..., *out_shape)."""
        x, c, lead = rows(x, c, 3)
        return self.out(self.trunk(x), c).unflatten(0, lead)


class ImageDecoder(nn.Module):
    """Any shape and a context linearly to a `small` image, and then through `trunk`, which makes it large."""

    def __init__(self, trunk: nn.Module, small: tuple[int, ...], in_shape: tuple[int, ...], n_context: int = 0) -> None:
        super().__init__()
        self.trunk, self.in_dims = trunk, len(in_shape)
        self.into = Dense(in_shape, small, n_context)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (..., *in_shape), c (B, n_context) -> (..., C, H, W)."""
        z, c, lead = rows(z, c, self.in_dims)
        return self.trunk(self.into(z, c)).unflatten(0, lead)
