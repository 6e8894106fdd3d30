"""Convolutions down, transposed convolutions back up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from vae_lightning.model.layer import activation as make_activation
from vae_lightning.model.layer import norm as make_norm
from vae_lightning.model.layer import rows, with_context
from vae_lightning.model.vae import VAE, Likelihood, flat_vae
from vae_lightning.schema import Activation, Count, NonNegative, Norm


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


class ConvEncoder(nn.Module):
    """An image to any shape.

    >>> import torch
    >>> ConvEncoder((1, 28, 28), (4,))(torch.zeros(3, 1, 28, 28), torch.zeros(3, 0)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        n_context: int = 0,
        channels: Sequence[int] = (32, 64, 64, 64),
        strides: Sequence[int] = (1, 2, 2, 1),
        kernel_size: int = 3,
        activation: Activation = "leaky_relu",
        negative_slope: float = 0.01,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        h, w = image_sizes(in_shape, strides, kernel_size)[-1]
        layers: list[nn.Module] = []
        for (before, after), stride in zip(pairwise([in_shape[0], *channels]), strides, strict=True):
            convolution = nn.Conv2d(before, after, kernel_size, stride, (kernel_size - 1) // 2, bias=norm == "none")
            layers += [convolution, make_norm(norm, after, image=True), make_activation(activation, negative_slope)]
        self.convolutions = nn.Sequential(*layers)
        self.out = nn.Linear(channels[-1] * h * w + n_context, math.prod(out_shape))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (..., C, H, W), c (B, n_context) -> (..., *out_shape)."""
        x, c, lead = rows(x, c, 3)
        return self.out(with_context(self.convolutions(x).flatten(1), c)).view(*lead, *self.out_shape)


class ConvDecoder(nn.Module):
    """Any shape to an image: the mirror image of a `ConvEncoder` with the same knobs.

    >>> import torch
    >>> ConvDecoder((20,), (1, 28, 28))(torch.zeros(2, 3, 20), torch.zeros(3, 0)).shape
    torch.Size([2, 3, 1, 28, 28])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        n_context: int = 0,
        channels: Sequence[int] = (32, 64, 64, 64),
        strides: Sequence[int] = (1, 2, 2, 1),
        kernel_size: int = 3,
        activation: Activation = "leaky_relu",
        negative_slope: float = 0.01,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.in_dims = len(in_shape)
        sizes = image_sizes(out_shape, strides, kernel_size)
        self.small = (channels[-1], *sizes[-1])
        self.into = nn.Linear(math.prod(in_shape) + n_context, math.prod(self.small))
        padding = (kernel_size - 1) // 2
        widths = list(pairwise([out_shape[0], *channels]))
        layers: list[nn.Module] = [make_activation(activation, negative_slope)]
        for i in reversed(range(len(strides))):
            after, before = widths[i]
            # A strided convolution maps several sizes to one; this much brings back the right one.
            (h, w), (small_h, small_w), reach = sizes[i], sizes[i + 1], kernel_size - 2 * padding
            extra = h - (small_h - 1) * strides[i] - reach, w - (small_w - 1) * strides[i] - reach
            last = i == 0
            bias = last or norm == "none"
            layers.append(nn.ConvTranspose2d(before, after, kernel_size, strides[i], padding, extra, bias=bias))
            if not last:
                layers += [make_norm(norm, after, image=True), make_activation(activation, negative_slope)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (..., *in_shape), c (B, n_context) -> (..., C, H, W)."""
        z, c, lead = rows(z, c, self.in_dims)
        image = self.convolutions(self.into(with_context(z.flatten(1), c)).unflatten(1, self.small))
        return image.unflatten(0, lead) if len(lead) > 1 else image


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
    activation: Activation = "leaky_relu",
    negative_slope: NonNegative = 0.01,
    norm: Norm = "none",
) -> VAE:
    """A VAE of convolutions. With kernel 4, stride 2 and batch normalisation it is the network of DCGAN.

    Radford et al. (2016), arXiv:1511.06434.

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
    knobs: dict[str, Any] = {"n_context": n_context, "channels": channels, "strides": strides}
    knobs |= {"kernel_size": kernel_size, "activation": activation, "negative_slope": negative_slope, "norm": norm}
    return flat_vae(
        (latent_dim,),
        partial(ConvEncoder, shape, **knobs),
        partial(ConvDecoder, **knobs),
        posterior,
        prior,
        likelihood,
        n_context,
    )
