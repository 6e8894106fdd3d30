"""CIFAR-10: small colour photographs."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_lightning.data.download import Files
from vae_lightning.data.images import Raw
from vae_lightning.errors import UserError

TRAITS = {"values": "pixels"}

FILE, MD5 = "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"  # the authors' own, from their page
SERVER = "https://www.cs.toronto.edu/~kriz/"
IMAGES_PER_FILE = 10_000


class Cifar10:
    """50 000 + 10 000 colour photographs (3, 32, 32) of ten kinds of things. Krizhevsky (2009), "Learning Multiple
    Layers of Features from Tiny Images".

    Read in memory from the binary version, `<root>/CIFAR10/cifar-10-binary.tar.gz`: a label and 3072 pixels, red, green
    and blue, for each image. The better known Python version is a pickle, which could run code.

    >>> Cifar10().files.path(Path("data"), FILE).as_posix()
    'data/CIFAR10/cifar-10-binary.tar.gz'

    Args:
        mirror: a URL of a folder that serves the file, in place of the authors'.
    """

    name = "CIFAR10"

    def __init__(self, mirror: str | None = None) -> None:
        self.files = Files("CIFAR10", {FILE: MD5}, [SERVER], mirror)

    def read(self, root: Path | None) -> Raw:
        """All images and labels; downloads what is not there.

        Raises:
            UserError: the file is damaged, or cannot be had; says what to do.
        """
        content = self.files.read(root, FILE)
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
                parts = [_images(archive, f"data_batch_{i}.bin") for i in range(1, 6)]
                test = _images(archive, "test_batch.bin")
        except Exception as error:  # of a damaged archive Python raises many things
            path = self.files.path(root, FILE)
            raise UserError(f"{path}: not the binary version of CIFAR-10 ({error})") from error
        x, y = (torch.cat(part) for part in zip(*parts, strict=True))
        return Raw((x, y), test)


def _images(archive: tarfile.TarFile, file: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) and labels (N,) of one file of the archive."""
    member = archive.extractfile(f"cifar-10-batches-bin/{file}")
    if member is None:
        raise ValueError(f"{file} is not a file")
    size = IMAGES_PER_FILE * 3073
    content = member.read(size + 1)
    if len(content) != size or max(content[::3073]) > 9:
        raise ValueError(f"{file} is not {IMAGES_PER_FILE} times a label and 3072 pixels")
    rows = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, 3073).copy())
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].long()
