"""MNIST and its likes: four files in the IDX format."""

from __future__ import annotations

import gzip
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
        by_file = {file: _idx(self.files.path(root, file), self.files.read(root, file)) for file in self.files.md5}
        x_train, y_train, x_test, y_test = (
            next(part for file, part in by_file.items() if file.startswith(prefix))
            for prefix in ("train-images", "train-labels", "t10k-images", "t10k-labels")
        )
        return Raw((x_train.unsqueeze(1), y_train.long()), (x_test.unsqueeze(1), y_test.long()))


def _idx(path: Path, content: bytes) -> Tensor:
    """The array in a gzipped IDX file of bytes: two zeros, 8 (unsigned bytes), the number of dimensions, the sizes."""
    data = gzip.decompress(content)
    dims = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i]) for i in range(dims)]
    if data[:3] != b"\x00\x00\x08" or len(data) != 4 + 4 * dims + int(np.prod(shape)):
        raise UserError(f"{path}: not an IDX file of bytes")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape).copy())
