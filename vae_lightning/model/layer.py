"""The small parts that all networks share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_lightning.model.product import Linear
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


def channels_last(x: Tensor) -> Tensor:
    """The same images (..., C, H, W), with the channels of a pixel side by side in memory.

    >>> channels_last(torch.zeros(2, 3, 8, 8)).is_contiguous(memory_format=torch.channels_last)
    True
    """
    *_, channels, _, w = x.shape
    if x.stride()[-3:] == (1, w * channels, channels):  # `is_contiguous` is content with other strides of one channel
        return x
    return x.movedim(-3, -1).clone(memory_format=torch.contiguous_format).movedim(-1, -3)  # what `vmap` knows too


class ConvTranspose(nn.ConvTranspose2d):
    """A transposed convolution that adds its bias afterwards.

    oneDNN takes as long for the gradient of the bias as for all else together; a sum over the pixels takes no time.
    """

    channels_last = False

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x (N, before, H, W) -> (N, after, H', W')."""
        x = channels_last(x) if self.channels_last else x  # an image of one pixel has forgotten its layout on the way
        h = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding, self.output_padding)  # type: ignore[arg-type]
        return h if self.bias is None else h + self.bias.to(h.dtype)[:, None, None]


class Dense(nn.Module):
    """With the context, linearly from one shape to another; between images of one size, from pixel to pixel."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], n_context: int = 0) -> None:
        super().__init__()
        self.in_dims, self.out_shape = len(in_shape), tuple(out_shape)
        self.grid = in_shape[1:] if len(in_shape) == 3 and in_shape[1:] == out_shape[1:] else None
        if self.grid is None:
            self.linear: nn.Module = Linear(math.prod(in_shape) + n_context, math.prod(out_shape))
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

    channels_last = False

    def __init__(
        self, trunk: nn.Module, small: tuple[int, ...], out_shape: tuple[int, ...], n_context: int = 0
    ) -> None:
        super().__init__()
        self.trunk, self.out = trunk, Dense(small, out_shape, n_context)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (..., C, H, W), c (B, n_context) -> (..., *out_shape)."""
        x, c, lead = rows(x, c, 3)
        x = channels_last(x) if self.channels_last else x
        return self.out(self.trunk(x), c).unflatten(0, lead)


class ImageDecoder(nn.Module):
    """Any shape and a context linearly to a `small` image, and then through `trunk`, which makes it large."""

    channels_last = False

    def __init__(self, trunk: nn.Module, small: tuple[int, ...], in_shape: tuple[int, ...], n_context: int = 0) -> None:
        super().__init__()
        self.trunk, self.in_dims = trunk, len(in_shape)
        self.into = Dense(in_shape, small, n_context)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (..., *in_shape), c (B, n_context) -> (..., C, H, W)."""
        z, c, lead = rows(z, c, self.in_dims)
        small = self.into(z, c)
        small = channels_last(small) if self.channels_last else small
        return self.trunk(small).unflatten(0, lead)
