"""Files from the internet: downloaded once, verified at every read, and never seen half."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from torchvision.datasets.utils import download_url

from vae_lightning.errors import UserError
from vae_lightning.paths import no_file


class Files:
    """The files of a data set, in `<root>/<folder>/`.

    Their MD5 is compared each time they are read: that takes some 2 ms per megabyte, and a file that went bad later is
    noticed as well.

    >>> root = Path(tempfile.mkdtemp())
    >>> _ = (root / "hello").write_bytes(b"hello")
    >>> Files(".", {"hello": hashlib.md5(b"hello").hexdigest()}, []).read(root, "hello")
    b'hello'

    Args:
        folder: below the root.
        md5: the MD5 of each file.
        mirrors: URLs of folders that serve them; each is tried in turn.
        mirror: the user's own, in place of them.
        instead: an option of `data` that needs no download.
    """

    def __init__(
        self,
        folder: str,
        md5: Mapping[str, str],
        mirrors: Iterable[str],
        mirror: str | None = None,
        instead: str = "digits",
    ) -> None:
        self.folder, self.md5, self.instead = folder, dict(md5), instead
        self.mirrors = [f"{url.rstrip('/')}/" for url in ([mirror] if mirror else mirrors)]

    def path(self, root: Path | None, file: str) -> Path:
        """Where `file` is kept."""
        return (root or Path()) / self.folder / file

    def read(self, root: Path | None, file: str) -> bytes:
        """The content of `file`; downloads it if it is not there.

        Raises:
            UserError: it is damaged, or cannot be had; says what to do.
        """
        path = self.path(root, file)
        if wrong := no_file(path):
            if os.path.lexists(path):
                how = "Take it away, and the file is downloaded"
                raise UserError(f"{path}: {wrong}. {how}; or say data={self.instead}")
            self._download(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if wrong := self._wrong(file, content):
            raise UserError(f"{path}: {wrong}. Delete the file, and it is downloaded again; or say data={self.instead}")
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
                f"with data.root=<folder>, or one that has the files in {self.folder}; or say data={self.instead}"
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
        them = "them" if len(self.md5) > 1 else "it"
        raise UserError(
            f"{path} is not there, and could not be downloaded.\n  "
            + "\n  ".join(failures)
            + f"\nPut {', '.join(self.md5)} into {path.parent}, name a folder that has {them} in {self.folder} with "
            f"data.root=<folder>, or say data={self.instead}, which needs no download"
        )


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
