"""MNIST and its likes: four files in the IDX format."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torchvision
from torch import Tensor

from vae_lightning.data.download import Files
from vae_lightning.data.images import Raw
from vae_lightning.errors import UserError

TRAITS = {"values": "pixels"}
MOST = 1 << 28  # bytes of an array: the largest of these data sets have 47 million


class Idx:
    """A data set of torchvision's MNIST family, in `<root>/<name>/raw/`, where torchvision keeps it too.

    The compressed files are read as they are.

    Args:
        name: the class of torchvision.datasets that knows the files, their MD5s and who serves them.
        mirror: a URL in place of torchvision's mirrors.
    """

    def __init__(self, name: Literal["MNIST", "FashionMNIST", "KMNIST"] = "MNIST", mirror: str | None = None) -> None:
        self.name = name
        family = getattr(torchvision.datasets, name)
        self.files = Files(f"{name}/raw", dict(family.resources), family.mirrors, mirror)

    def read(self, root: Path | None) -> Raw:
        """All images and labels; downloads what is not there.

        Raises:
            UserError: a file is damaged, or cannot be had; says what to do.
        """
        by_file = {
            file: _idx(self.files.path(root, file), self.files.read(root, file), 3 if "images" in file else 1)
            for file in self.files.md5
        }
        x_train, y_train, x_test, y_test = (
            next(part for file, part in by_file.items() if file.startswith(prefix))
            for prefix in ("train-images", "train-labels", "t10k-images", "t10k-labels")
        )
        for x, y in ((x_train, y_train), (x_test, y_test)):
            if len(x) != len(y):
                folder = self.files.path(root, "")
                raise UserError(
                    f"{folder}: {len(x)} images and {len(y)} labels; delete these files, and they are downloaded again"
                )
        return Raw((x_train.unsqueeze(1), y_train.long()), (x_test.unsqueeze(1), y_test.long()))


def _idx(path: Path, content: bytes, dims: int) -> Tensor:
    """The array in a gzipped IDX file of bytes: two zeros, 8 (unsigned bytes), the number of dimensions, the sizes.

    No more is unpacked than these sizes say, and `MOST` bytes at most.
    """
    try:
        with gzip.open(io.BytesIO(content)) as file:
            head = file.read(4 + 4 * dims)
            shape = [int.from_bytes(head[i : i + 4]) for i in range(4, len(head), 4)]
            size = math.prod(shape)
            if head[:4] != bytes([0, 0, 8, dims]) or len(shape) != dims or not 0 < size <= MOST:
                raise ValueError(f"it does not begin as one of {dims} dimensions does")
            data = file.read(size + 1)
        if len(data) != size:
            raise ValueError(f"{'more' if len(data) > size else 'fewer'} bytes than the {size} that it declares")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{path}: not an IDX file of bytes ({error})") from error
    return torch.from_numpy(np.frombuffer(data, np.uint8).reshape(shape).copy())
