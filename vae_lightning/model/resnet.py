"""Residual networks, down and up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from vae_lightning.model.conv import image_sizes
from vae_lightning.model.layer import activation as make_activation
from vae_lightning.model.layer import norm as make_norm
from vae_lightning.model.layer import rows, with_context
from vae_lightning.model.vae import VAE, Likelihood, flat_vae
from vae_lightning.schema import Activation, Count, NonNegative, Norm


class Block(nn.Module):
    """x + f(x), with normalisation and activation before each 3x3 convolution. He et al. (2016), arXiv:1603.05027."""

    def __init__(
        self, before: int, after: int, stride: int, activation: Activation, negative_slope: float, norm: Norm
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            make_norm(norm, before, image=True),
            make_activation(activation, negative_slope),
            nn.Conv2d(before, after, 3, stride, 1),
            make_norm(norm, after, image=True),
            make_activation(activation, negative_slope),
            nn.Conv2d(after, after, 3, 1, 1),
        )
        same = before == after and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)


class ResNetEncoder(nn.Module):
    """An image to any shape.

    >>> import torch
    >>> ResNetEncoder((1, 28, 28), (4,))(torch.zeros(3, 1, 28, 28), torch.zeros(3, 0)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        n_context: int = 0,
        channels: Sequence[int] = (32, 64, 64),
        blocks: int = 1,
        activation: Activation = "silu",
        negative_slope: float = 0.01,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        block = partial(Block, activation=activation, negative_slope=negative_slope, norm=norm)
        h, w = image_sizes(in_shape, _strides(channels), 3)[-1]
        layers: list[nn.Module] = [nn.Conv2d(in_shape[0], channels[0], 3, 1, 1)]
        for (before, after), stride in zip(pairwise([channels[0], *channels]), _strides(channels), strict=True):
            layers += [block(before, after, stride), *(block(after, after, 1) for _ in range(blocks - 1))]
        layers += [make_norm(norm, channels[-1], image=True), make_activation(activation, negative_slope)]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(channels[-1] * h * w + n_context, math.prod(out_shape))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (..., C, H, W), c (B, n_context) -> (..., *out_shape)."""
        x, c, lead = rows(x, c, 3)
        return self.out(with_context(self.layers(x).flatten(1), c)).view(*lead, *self.out_shape)


class ResNetDecoder(nn.Module):
    """Any shape to an image; each stage but the last doubles it, by repeating pixels.

    >>> import torch
    >>> ResNetDecoder((20,), (1, 28, 28))(torch.zeros(2, 3, 20), torch.zeros(3, 0)).shape
    torch.Size([2, 3, 1, 28, 28])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        n_context: int = 0,
        channels: Sequence[int] = (32, 64, 64),
        blocks: int = 1,
        activation: Activation = "silu",
        negative_slope: float = 0.01,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.in_dims = len(in_shape)
        block = partial(Block, stride=1, activation=activation, negative_slope=negative_slope, norm=norm)
        sizes = image_sizes(out_shape, _strides(channels), 3)
        self.small = (channels[-1], *sizes[-1])
        self.into = nn.Linear(math.prod(in_shape) + n_context, math.prod(self.small))
        layers: list[nn.Module] = []
        for (after, before), size in reversed(list(zip(pairwise([channels[0], *channels]), sizes, strict=False))):
            layers += [block(before, after), *(block(after, after) for _ in range(blocks - 1)), nn.Upsample(size)]
        layers += [make_norm(norm, channels[0], image=True), make_activation(activation, negative_slope)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[0], out_shape[0], 3, 1, 1))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (..., *in_shape), c (B, n_context) -> (..., C, H, W)."""
        z, c, lead = rows(z, c, self.in_dims)
        image = self.layers(self.into(with_context(z.flatten(1), c)).unflatten(1, self.small))
        return image.unflatten(0, lead) if len(lead) > 1 else image


def _strides(channels: Sequence[int]) -> list[int]:
    return [1] + [2] * (len(channels) - 1)


def resnet(
    shape: tuple[int, ...],
    n_context: int,
    posterior: Callable[..., Any],
    prior: Callable[..., Any],
    likelihood: Likelihood,
    latent_dim: Count = 20,
    channels: list[Count] = [32, 64, 64],  # noqa: B006
    blocks: Count = 1,
    activation: Activation = "silu",
    negative_slope: NonNegative = 0.01,
    norm: Norm = "batch",
) -> VAE:
    """A VAE of residual networks.

    Args:
        shape: (C, H, W), any.
        latent_dim: D.
        channels: of each stage; every stage but the first halves the image. The decoder has them in reverse.
        blocks: residual blocks a stage.
        activation: before each convolution.
        negative_slope: of `leaky_relu`.
        norm: before each activation.
    """
    knobs: dict[str, Any] = {"n_context": n_context, "channels": channels, "blocks": blocks}
    knobs |= {"activation": activation, "negative_slope": negative_slope, "norm": norm}
    return flat_vae(
        (latent_dim,),
        partial(ResNetEncoder, shape, **knobs),
        partial(ResNetDecoder, **knobs),
        posterior,
        prior,
        likelihood,
        n_context,
    )
