"""dSprites: white shapes on black, made from five known factors."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import torch

from vae_lightning.data.download import Files
from vae_lightning.data.images import Raw
from vae_lightning.data.npy import declared
from vae_lightning.data.split import hold_out
from vae_lightning.errors import UserError
from vae_lightning.schema import Fraction, NonNegativeInt

TRAITS = {"values": "pixels"}

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
MD5 = "7da33b31b13a06f4b04a70402ce90c2e"
SERVER = "https://github.com/google-deepmind/dsprites-dataset/raw/master/"
NAMES = ("shape", "scale", "orientation", "x", "y")
VALUES = (3, 6, 40, 32, 32)  # of each factor; an image for every combination


class DSprites:
    """737 280 binary images (1, 64, 64) of a square, an ellipse or a heart. Matthey et al. (2017), "dSprites:
    Disentanglement testing Sprites dataset". Labels are the shape; the colour is always white and is left out.

    Of `<root>/dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz` only images and factors are read: what else it
    holds is a pickle, which could run code. The authors publish no checksum; the MD5 is the one that other readers of
    the file, latte's for one, compare with. The images take 3 GB, and 8 GB for a moment while they are read and split.

    >>> DSprites().files.path(Path("data"), FILE).parent.as_posix()
    'data/dsprites'

    Args:
        mirror: a URL of a folder that serves the file, in place of the authors'.
        test_size: images drawn for the test set, always the same; or below 1 which part of all.
    """

    name = "dsprites"

    def __init__(self, mirror: str | None = None, test_size: NonNegativeInt | Fraction = 0.1) -> None:
        self.files = Files("dsprites", {FILE: MD5}, [SERVER], mirror, instead="shapes")
        self.test_size = test_size

    def read(self, root: Path | None) -> Raw:
        """All images, shapes and factors; downloads what is not there.

        Raises:
            UserError: the file is damaged, or cannot be had; says what to do.
        """
        content = self.files.read(root, FILE)
        try:
            images, factors = _arrays(content)
        except Exception as error:  # of a damaged archive NumPy and Python raise many things
            raise UserError(f"{self.files.path(root, FILE)}: not the file of dSprites ({error})") from error
        images *= 255  # in place: there are 3 GB of them
        x, known = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(factors)
        train, test = hold_out(len(x), self.test_size)
        y = known[:, 0]
        return Raw((x[train], y[train]), (x[test], y[test]), (known[train], known[test]), NAMES)


def _arrays(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 64, 64) uint8 of 0 and 1, and factors (N, 5) int64 that count from 0."""
    n = math.prod(VALUES)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name, shape, kind in (("latents_classes", (n, 6), np.int64), ("imgs", (n, 64, 64), np.uint8)):
            with archive.open(f"{name}.npy") as member:
                if declared(member) != (shape, kind):  # before any memory is taken for it
                    raise ValueError(f"{name} is not {n} times {shape[1:]} {np.dtype(kind)}")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        factors = file["latents_classes"]
        if (factors != _grid()).any():
            raise ValueError("latents_classes does not count all combinations of the factors")
        images = file["imgs"]
    if images.max() > 1:
        raise ValueError(f"imgs is not {n} images of 64x64 zeros and ones")
    return images, factors[:, 1:].copy()


def _grid() -> np.ndarray:
    """Every combination of colour (one) and factors, in the order of the file: the last one changes fastest."""
    return np.indices((1, *VALUES)).reshape(6, -1).T
