"""Convolutions down, transposed convolutions back up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from vae_lightning.model.layer import ConvTranspose, ImageDecoder, ImageEncoder, twice
from vae_lightning.model.layer import activation as make_activation
from vae_lightning.model.layer import norm as make_norm
from vae_lightning.model.vae import VAE, Likelihood, flat_vae
from vae_lightning.schema import Count, Gated, NonNegative, Norm

TRAITS = {"latents": "one", "two_parts": True}


def image_sizes(shape: tuple[int, ...], strides: Sequence[int], kernel_size: int) -> list[tuple[int, int]]:
    """(H, W) before the first convolution and after each one, with a padding of (kernel_size - 1) // 2.

    >>> image_sizes((1, 28, 28), [1, 2, 2, 1], 3)
    [(28, 28), (28, 28), (14, 14), (7, 7), (7, 7)]

    Raises:
        ValueError: nothing would be left of the image; says how large it must be.
    """
    padding = (kernel_size - 1) // 2
    sizes = [(shape[-2], shape[-1])]
    for stride in strides:
        h, w = ((size + 2 * padding - kernel_size) // stride + 1 for size in sizes[-1])
        sizes.append((h, w))
    if min(sizes[-1]) < 1:
        least = 1  # go back up from one pixel
        for stride in reversed(strides):
            least = max((least - 1) * stride + kernel_size - 2 * padding, 1)
        raise ValueError(
            f"{len(strides)} convolutions of kernel {kernel_size} and strides {list(strides)} need images of at least "
            f"{least}x{least} pixels, these have {shape[-2]}x{shape[-1]}: take fewer of model.channels and "
            f"model.strides, or enlarge the images with data.pad={2 ** math.ceil(math.log2(least))}"
        )
    return sizes


def conv(
    shape: tuple[int, ...],
    n_context: int,
    posterior: Callable[..., Any],
    prior: Callable[..., Any],
    likelihood: Likelihood,
    latent_dim: Count = 20,
    channels: list[Count] = [32, 64, 64, 64],  # noqa: B006
    strides: list[Count] = [1, 2, 2, 1],  # noqa: B006
    kernel_size: Count = 3,
    activation: Gated = "leaky_relu",
    negative_slope: NonNegative = 0.01,
    norm: Norm = "none",
) -> VAE:
    """A VAE of convolutions. With kernel 4, stride 2 and batch normalisation it is the network of DCGAN, Radford et al.
    (2016), arXiv:1511.06434; with activation `glu` its convolutions are gated, as in Tomczak and Welling (2018),
    arXiv:1705.07120, section 4.2.

    Args:
        shape: (C, H, W); how large it must be depends on the strides.
        latent_dim: D.
        channels: of each convolution of the encoder; the decoder has them in reverse.
        strides: likewise.
        kernel_size: of all convolutions.
        activation: after each convolution.
        negative_slope: of `leaky_relu`.
        norm: before each activation.

    Raises:
        ValueError: `channels` and `strides` differ in length, or the images are too small.
    """
    if len(channels) != len(strides):
        raise ValueError(f"model.channels={channels} and model.strides={strides} must be equally long")
    sizes = image_sizes(shape, strides, kernel_size)
    small, padding = (channels[-1], *sizes[-1]), (kernel_size - 1) // 2

    def after(width: int) -> list[nn.Module]:
        return [make_norm(norm, twice(activation, width), True), make_activation(activation, negative_slope, True)]

    def down() -> nn.Sequential:
        layers: list[nn.Module] = []
        for (before, width), stride in zip(pairwise([shape[0], *channels]), strides, strict=True):
            wide = twice(activation, width)
            layers.append(nn.Conv2d(before, wide, kernel_size, stride, padding, bias=norm == "none"))
            layers += after(width)
        return nn.Sequential(*layers)

    def up(out_channels: int) -> nn.Sequential:
        layers: list[nn.Module] = [make_activation("relu" if activation == "glu" else activation, negative_slope)]
        widths, reach = [out_channels, *channels], kernel_size - 2 * padding
        for i in reversed(range(len(strides))):
            # A strided convolution maps several sizes to one; this much brings back the right one.
            (h, w), (small_h, small_w), stride = sizes[i], sizes[i + 1], strides[i]
            extra = h - (small_h - 1) * stride - reach, w - (small_w - 1) * stride - reach
            bias, wide = i == 0 or norm == "none", twice(activation, widths[i]) if i else out_channels
            layers.append(ConvTranspose(widths[i + 1], wide, kernel_size, stride, padding, extra, bias=bias))
            layers += after(widths[i]) if i else []
        return nn.Sequential(*layers)

    return flat_vae(
        (latent_dim,),
        lambda out_shape: ImageEncoder(down(), small, out_shape, n_context),
        lambda in_shape, out_shape: ImageDecoder(up(out_shape[0]), small, in_shape, n_context),
        posterior,
        prior,
        likelihood,
        n_context,
    )
