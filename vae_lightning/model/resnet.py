"""Residual networks, down and up."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from vae_lightning.model.conv import image_sizes
from vae_lightning.model.layer import ImageDecoder, ImageEncoder
from vae_lightning.model.layer import activation as make_activation
from vae_lightning.model.layer import norm as make_norm
from vae_lightning.model.vae import VAE, Likelihood, flat_vae
from vae_lightning.schema import Activation, Count, NonNegative, Norm

TRAITS = {"latents": "one", "two_parts": True}


class Block(nn.Module):
    """x + f(x), with normalisation and activation before each 3x3 convolution. He et al. (2016), arXiv:1603.05027.

    >>> import torch
    >>> Block(8, 16, 2)(torch.zeros(3, 8, 7, 7)).shape
    torch.Size([3, 16, 4, 4])
    """

    def __init__(
        self,
        before: int,
        after: int,
        stride: int = 1,
        activation: Activation = "silu",
        negative_slope: float = 0.01,
        norm: Norm = "batch",
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
        """x (N, before, H, W) -> (N, after, H / stride, W / stride), rounded up."""
        return self.shortcut(x) + self.residual(x)


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
    """A VAE of residual networks; on the way up each stage enlarges the image by repeating pixels.

    Args:
        shape: (C, H, W), any.
        latent_dim: D.
        channels: of each stage; every stage but the first halves the image. The decoder has them in reverse.
        blocks: residual blocks a stage.
        activation: before each convolution.
        negative_slope: of `leaky_relu`.
        norm: before each activation.
    """
    strides = [1] + [2] * (len(channels) - 1)
    sizes = image_sizes(shape, strides, 3)
    small, stages = (channels[-1], *sizes[-1]), list(pairwise([channels[0], *channels]))
    block = partial(Block, activation=activation, negative_slope=negative_slope, norm=norm)

    def last(width: int) -> list[nn.Module]:
        return [make_norm(norm, width, image=True), make_activation(activation, negative_slope)]

    def down() -> nn.Sequential:
        layers: list[nn.Module] = [nn.Conv2d(shape[0], channels[0], 3, 1, 1)]
        for (before, after), stride in zip(stages, strides, strict=True):
            layers += [block(before, after, stride), *(block(after, after) for _ in range(blocks - 1))]
        return nn.Sequential(*layers, *last(channels[-1]))

    def up(out_channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for (after, before), size in reversed(list(zip(stages, sizes[:-1], strict=True))):
            layers += [block(before, after), *(block(after, after) for _ in range(blocks - 1)), nn.Upsample(size)]
        return nn.Sequential(*layers, *last(channels[0]), nn.Conv2d(channels[0], out_channels, 3, 1, 1))

    return flat_vae(
        (latent_dim,),
        lambda out_shape: ImageEncoder(down(), small, out_shape, n_context),
        lambda in_shape, out_shape: ImageDecoder(up(out_shape[0]), small, in_shape, n_context),
        posterior,
        prior,
        likelihood,
        n_context,
    )
