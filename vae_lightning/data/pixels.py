"""What is done to all images once: binarisation and a border."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_lightning import noise
from vae_lightning.errors import ConfigError
from vae_lightning.schema import Binarize

BINARIZE_SEED = 777  # the same binary validation and test images for everybody


def binary(x: Tensor, how: Binarize, stream: int) -> Tensor:
    """Images (N, C, H, W) uint8 with values 0 and 255 only, or untouched.

    >>> binary(torch.tensor([100, 200], dtype=torch.uint8), "threshold", noise.TRAIN)
    tensor([  0, 255], dtype=torch.uint8)
    """
    if how == "threshold":
        return (x > 127).view(torch.uint8).mul_(255)  # no copy: a data set may have gigabytes
    if how == "static":
        generator = noise.generator("cpu", BINARIZE_SEED, stream, 0)
        return (torch.rand(x.shape, generator=generator) < x.float() / 255).to(torch.uint8) * 255
    return x


def once(how: Binarize) -> Binarize:
    """The same, with what is drawn anew at every presentation drawn a single time.

    >>> once("dynamic"), once("threshold")
    ('static', 'threshold')
    """
    return "static" if how == "dynamic" else how


def padded(x: Tensor, size: int | None) -> Tensor:
    """Images (..., H, W) in the middle of `size` x `size` zeros.

    >>> padded(torch.ones(1, 2, 2), 4).sum(-1)
    tensor([[0., 2., 2., 0.]])

    Raises:
        ConfigError: the border would cut.
    """
    if size is None:
        return x
    h, w = size - x.shape[-2], size - x.shape[-1]
    if min(h, w) < 0:
        raise ConfigError(f"data.pad={size}: the images have {x.shape[-2]}x{x.shape[-1]} pixels, and none are cut off")
    return F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2))


def scaled(x: Tensor) -> Tensor:
    """Pixels uint8 -> floats in [0, 1]; floats as they are."""
    return x / 255 if x.dtype == torch.uint8 else x.to(torch.get_default_dtype())
