"""Images of one's own, from a folder."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from vae_lightning.data.images import Raw
from vae_lightning.data.split import hold_out
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.paths import no_file
from vae_lightning.schema import Count, Fraction, NonNegativeInt

TRAITS = {"values": "pixels"}

FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "WEBP": (".webp",), "BMP": (".bmp",), "GIF": (".gif",)}
SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}

log = logging.getLogger("vae_lightning")


class Folder:
    """Every PNG, JPEG, WebP, BMP and GIF (its first picture) in a folder and the folders in it, hidden ones left out.

    An image is turned as its camera says, its transparent parts become black, and the largest square in its middle is
    resized. Labels: 0, 1, ... for the folders in the folder, by name; images directly in it come first.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for colour in ("red", "green", "blue"):
    ...     Image.new("RGB", (40, 30), colour).save(root / f"{colour}.png")
    >>> Folder(size=8, channels=1, test_size=1).read(root).train[0].shape
    torch.Size([2, 1, 8, 8])

    Args:
        size: pixels a side after resizing.
        channels: 3 for colour, 1 for grey.
        test_size: images drawn for the test set, always the same; or below 1 which part of all.
    """

    name = "folder"

    def __init__(
        self, size: Count = 64, channels: Literal[1, 3] = 3, test_size: NonNegativeInt | Fraction = 0.1
    ) -> None:
        self.size, self.channels, self.test_size = size, channels, test_size

    def read(self, root: Path | None) -> Raw:
        """All images below `root`.

        Raises:
            ConfigError: no such folder, or fewer than three images in it.
            UserError: an image that cannot be read.
        """
        if root is None:
            raise ConfigError("data=folder: say where the images are, data.root=<folder>")
        if not root.is_dir():
            raise ConfigError(f"data.root={root}: there is no such folder")
        paths = sorted(path for path in root.rglob("*") if _is_image(path, root))
        if len(paths) < 3:
            what = f"{len(paths)} images ({', '.join(sorted(SUFFIXES))}) in it, and the least are three"
            raise ConfigError(f"data.root={root}: there are {what}: to train, to validate and to test")
        x = torch.empty(len(paths), self.channels, self.size, self.size, dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL decodes without holding Python up
            for i, image in enumerate(pool.map(partial(read_image, size=self.size, channels=self.channels), paths)):
                x[i] = torch.from_numpy(image)
                if (i + 1) % 5000 == 0:
                    log.info("%d of %d images read from %s", i + 1, len(paths), root)
        folders = [parts[0] if len(parts := path.relative_to(root).parts) > 1 else "" for path in paths]
        number = {name: label for label, name in enumerate(sorted(set(folders)))}
        y = torch.tensor([number[name] for name in folders])
        train, test = hold_out(len(x), self.test_size)
        return Raw((x[train], y[train]), (x[test], y[test]))


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    there = path.is_file() or (path.is_symlink() and not path.exists())  # a link that leads nowhere is not passed over
    return path.suffix.lower() in SUFFIXES and not hidden and there


def read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """An image file as (C, size, size) uint8, upright, its largest square in the middle resized.

    Raises:
        UserError: it cannot be read.
    """
    mode = "L" if channels == 1 else "RGB"
    if wrong := no_file(path):
        raise UserError(f"{path}: {wrong}; take it out")
    try:
        with Image.open(path, formats=list(FORMATS)) as image:
            image.draft(mode, (2 * size, 2 * size))  # a large JPEG is decoded at a part of its size
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                black = Image.new("RGBA", upright.size, "black")
                upright = Image.alpha_composite(black, upright.convert("RGBA"))
            if upright.mode.startswith("I;16"):  # 16 bits a pixel, of which PIL would take all above 255 for white
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            side = min(upright.size)
            left, top = (upright.width - side) // 2, (upright.height - side) // 2
            square = upright.convert(mode).crop((left, top, left + side, top + side))
            square = square.resize((size, size), Image.Resampling.BICUBIC)
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path}: is no PNG, JPEG, WebP, BMP or GIF image, whatever its name says; take it out"
        ) from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            f"{path}: has more than {limit:,} pixels, where PIL suspects an attack; make it smaller or take it out"
        ) from error
    except Exception as error:  # of a damaged file PIL raises many things
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({why}); take it out") from error
    return np.asarray(square).reshape(size, size, channels).transpose(2, 0, 1).copy()
