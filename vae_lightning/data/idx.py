"""MNIST and its likes: four files in the IDX format, verified at every read."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torchvision
from filelock import FileLock
from torch import Tensor
from torchvision.datasets.utils import download_url

from vae_lightning.data.images import Raw
from vae_lightning.errors import UserError


class Idx:
    """A data set of torchvision's MNIST family, in `<root>/<name>/raw/`, where torchvision keeps it too.

    The compressed files are read as they are, and their MD5 is compared each time: it takes some 20 ms, and a file
    that went bad later is noticed as well.

    Args:
        name: the class of torchvision.datasets that knows the files, their MD5s and who serves them.
        mirror: a URL in place of torchvision's mirrors.
    """

    def __init__(self, name: Literal["MNIST", "FashionMNIST", "KMNIST"] = "MNIST", mirror: str | None = None) -> None:
        self.name = name
        family = getattr(torchvision.datasets, name)
        self.mirrors: list[str] = [f"{mirror.rstrip('/')}/"] if mirror else list(family.mirrors)
        self.md5: dict[str, str] = dict(family.resources)

    def read(self, root: Path | None) -> Raw:
        """All images and labels; downloads what is not there.

        Raises:
            UserError: a file is damaged, or cannot be had; says what to do.
        """
        folder = (root or Path()) / self.name / "raw"
        parts = [_idx(path, self._verified(path)) for path in (folder / file for file in self.md5)]
        by_file = dict(zip(self.md5, parts, strict=True))
        x_train, y_train, x_test, y_test = (
            next(part for file, part in by_file.items() if file.startswith(prefix))
            for prefix in ("train-images", "train-labels", "t10k-images", "t10k-labels")
        )
        return Raw((x_train.unsqueeze(1), y_train.long()), (x_test.unsqueeze(1), y_test.long()))

    def _verified(self, path: Path) -> bytes:
        if not path.is_file():
            self._download(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if wrong := self._wrong(path.name, content):
            raise UserError(f"{path}: {wrong}. Delete the file, and it is downloaded again; or say data=digits")
        return content

    def _wrong(self, file: str, content: bytes) -> str | None:
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found == self.md5[file]:
            return None
        if content.lstrip()[:1] == b"<":
            return f"is a web page, not {file} (a login page of your network, perhaps)"
        return f"is damaged: {len(content)} bytes with MD5 {found}, expected {self.md5[file]}"

    def _download(self, path: Path) -> None:
        """Under a lock, to a temporary name beside it, verified, renamed: nobody ever sees half a file."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                if not path.is_file():
                    self._fetch(path)
        except OSError as error:
            raise UserError(
                f"{path} is not there, and cannot be written ({error.strerror}). Name a folder that can be written "
                f"with data.root=<folder>, or one that has the files in {self.name}/raw; or say data=digits"
            ) from error

    def _fetch(self, path: Path) -> None:
        failures = []
        for mirror in self.mirrors:
            with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as temporary, _timeout(30.0):
                file = Path(temporary) / path.name
                try:
                    download_url(f"{mirror}{path.name}", temporary, path.name)
                    wrong = self._wrong(path.name, file.read_bytes())
                except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
                    wrong = f"cannot be had ({getattr(error, 'reason', error)})"
                if not wrong:
                    file.replace(path)
                    return
                failures.append(f"{mirror}{path.name} {wrong}")
        raise UserError(
            f"{path} is not there, and could not be downloaded.\n  "
            + "\n  ".join(failures)
            + f"\nPut {', '.join(self.md5)} into {path.parent}, name a folder that has them in {self.name}/raw with "
            "data.root=<folder>, or say data=digits, which needs no download"
        )


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _idx(path: Path, content: bytes) -> Tensor:
    """The array in a gzipped IDX file of bytes: two zeros, 8 (unsigned bytes), the number of dimensions, the sizes."""
    data = gzip.decompress(content)
    dims = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i]) for i in range(dims)]
    if data[:3] != b"\x00\x00\x08" or len(data) != 4 + 4 * dims + int(np.prod(shape)):
        raise UserError(f"{path}: not an IDX file of bytes")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape).copy())
