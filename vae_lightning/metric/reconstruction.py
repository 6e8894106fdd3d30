"""How far reconstructions are from images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure as similarity

from vae_lightning.metric.value import Names, Value
from vae_lightning.progress import track
from vae_lightning.schema import Count
from vae_lightning.trained import Trained

RADIUS, SIGMA = 5, 1.5  # of the window of Wang et al. (2004), in pixels
PORTION = 256  # images at a time


class Reconstruction:
    """Test images against E[x' | z], with z the mode of q(z | x).

    The squared error and the structural similarity of Wang et al. (2004), doi:10.1109/TIP.2003.819861, eq. 13, under a
    Gaussian window of 11x11 pixels; smaller where the images are. Real numbers that are no pixels have the squared
    error alone.

    Args:
        images: test images; null: all.
    """

    lower_is_better: Names = ("mse",)
    higher_is_better: Names = ("psnr", "ssim")

    def __init__(self, images: Count | None = 1000) -> None:
        self.images = images

    def __call__(self, trained: Trained) -> dict[str, Value]:
        """mse, and of pixels psnr and ssim."""
        total = len(trained.data.test[0])
        n = min(self.images or total, total)
        batches = track(trained.batches("test", n, PORTION), "reconstructions", math.ceil(n / PORTION))
        pairs = [(b.x.double(), trained.model.reconstruct(b.x, b.c).double()) for b in batches]
        errors = torch.cat([(x - again).square().flatten(1).mean(1) for x, again in pairs])
        pixels = not trained.data.test[0].is_floating_point()
        values = {"mse": mean(errors, "squared error per " + ("pixel" if pixels else "number"))}
        if not pixels:
            return values
        mse = values["mse"].value
        if mse > 0:
            values["psnr"] = Value(-10 * math.log10(mse), "dB", note="of the mean squared error, white is 1")
        if radius := window(trained.data.shape):
            size = 2 * radius + 1
            alike = torch.cat([ssim(x, again, radius) for x, again in pairs])
            values["ssim"] = mean(alike, note=f"1: identical; Gaussian window of {size}x{size}")
        return values


def window(shape: tuple[int, ...]) -> int:
    """The radius of the window of SSIM that fits into images (C, H, W), in pixels; 0: none.

    >>> window((1, 28, 28)), window((3, 8, 10)), window((1, 1, 10))
    (5, 3, 0)
    """
    return min(RADIUS, (min(shape[-2:]) - 1) // 2)


def ssim(x: Tensor, y: Tensor, radius: int) -> Tensor:
    """The structural similarity of images (B, C, H, W) in [0, 1]; shape (B,)."""
    value = similarity(x, y, sigma=SIGMA * radius / RADIUS, data_range=1.0, reduction="none")
    assert isinstance(value, Tensor)
    return value.view(len(x))


def mean(values: Tensor, unit: str = "", note: str = "") -> Value:
    """The mean of what each image has, with its standard error."""
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return Value(values.mean().item(), unit, error, note)
