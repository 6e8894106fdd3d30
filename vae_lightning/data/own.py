"""Image files of a user as a trained model takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_lightning import noise
from vae_lightning.data.folder import read_image
from vae_lightning.data.pixels import binary, once
from vae_lightning.errors import ConfigError
from vae_lightning.paths import expanded
from vae_lightning.schema import Binarize


def own_images(files: Sequence[str], shape: tuple[int, ...], binarize: Binarize, invert: bool = False) -> Tensor:
    """Image files as uint8 (N, C, H, W), made grey or coloured, cut to a square, resized and binarised as the data are.

    Args:
        files: their paths.
        shape: (C, H, W) of the data.
        binarize: of the data; what is drawn anew in training is drawn once here.
        invert: light becomes dark, and dark light.

    Raises:
        ConfigError: there is no such file, or the data are no such images.
        UserError: a file cannot be read.
    """
    channels, height, width = shape
    if height != width or channels not in (1, 3):
        raise ConfigError(f"files={list(files)}: the data are {channels}x{height}x{width}, which no image file becomes")
    paths = [expanded(file) for file in files]
    if lost := [str(path) for path in paths if not path.is_file()]:
        raise ConfigError(f"files: {', '.join(lost)}: there is no such file")
    x = torch.stack([torch.from_numpy(read_image(path, height, channels)) for path in paths])
    return binary(255 - x if invert else x, once(binarize), noise.TEST)
