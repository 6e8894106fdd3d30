"""scikit-learn's bundled handwritten digits."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_lightning.data.images import Raw
from vae_lightning.schema import Count

TRAITS = {"values": "pixels"}


class Digits:
    """1 797 digits of 8x8 pixels from 43 people, resized. Alpaydin and Kaynak (1998), UCI repository, 10.24432/C50P49.

    >>> Digits(size=28).read(None).test[0].shape
    torch.Size([297, 1, 28, 28])

    Args:
        size: pixels a side.
        test_size: how many images become the test set, the last ones of the collection.
    """

    name = "digits"

    def __init__(self, size: Count = 28, test_size: Count = 297) -> None:
        self.size, self.test_size = size, test_size

    def read(self, root: Path | None) -> Raw:
        """All images; nothing is read from `root`."""
        table = _table()
        grey = table[:, :64].float().reshape(-1, 1, 8, 8) / 16
        grey = F.interpolate(grey, size=(self.size, self.size), mode="bilinear", antialias=True)
        x, y = (grey.clamp(0, 1) * 255).round().to(torch.uint8), table[:, 64].long()
        if self.test_size >= len(x) - 1:
            raise ValueError(f"data.source.test_size={self.test_size}: there are {len(x)} images in all")
        return Raw((x[: -self.test_size], y[: -self.test_size]), (x[-self.test_size :], y[-self.test_size :]))


def _table() -> Tensor:
    """Rows of 64 pixels from 0 to 16 and a label (1797, 65), uint8, as `sklearn.datasets.load_digits` has them.

    Importing that takes a second, most of it for pandas, which it can do without.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz") as file:
        numbers = np.array(file.read().replace(b"\n", b",").strip(b",").split(b","), np.uint8)
    return torch.from_numpy(numbers.reshape(-1, 65))
