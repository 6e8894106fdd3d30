"""Whether a file is the one that was written. Its SHA-256 lies beside it, as `sha256sum` has it."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import IO

from vae_lightning.atomic import replaced

SUFFIX = ".sha256"


def beside(path: Path) -> Path:
    """Where the SHA-256 of `path` is kept."""
    return path.with_name(path.name + SUFFIX)


def expect(path: Path, digest: str, settled: bool = False) -> None:
    """Write down that `path` has this SHA-256; until that is `settled` it may also be what it was before.

    So a file can be replaced between two of these calls, and is the expected one at any time.
    """
    digests = [digest] if settled else list(dict.fromkeys([digest, *_expected(path)]))
    with replaced(beside(path), durable=True) as file:
        file.writelines(f"{each}  {path.name}\n" for each in digests)


def damage(path: Path) -> str | None:
    """What is wrong with a file that was written under `expect`, or else with the zip archive that it is; or None.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a"
    >>> _ = path.write_bytes(b"whole")
    >>> expect(path, hashlib.sha256(b"whole").hexdigest())
    >>> damage(path)
    >>> _ = path.write_bytes(b"whale")
    >>> damage(path)
    'its SHA-256 is not the one in a.sha256'

    Raises:
        OSError: it cannot be read.
    """
    if expected := _expected(path):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return None if found in expected else f"its SHA-256 is not the one in {beside(path).name}"
    try:
        with zipfile.ZipFile(path) as archive:
            odd = (
                file.filename for file in archive.infolist() if file.external_attr or file.internal_attr or file.volume
            )
            bad = archive.testzip() or next(odd, None)  # torch writes no attributes, and reads a folder's as it likes
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError):
        return "it is cut off, or no checkpoint"
    return None if bad is None else f"{bad} in it has changed since it was written"


def _expected(path: Path) -> list[str]:
    try:
        lines = beside(path).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [line.partition(" ")[0] for line in lines if line.strip()]


class Hashed:
    """Writes into a file and knows the SHA-256 of all that was written.

    torch tells an error of the file in words of its own: the error itself is kept.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        if self.error is None:
            try:
                self.file.write(content)
            except OSError as error:
                self.error = error
        self.sha256.update(content)
        return len(content)

    def flush(self) -> None:
        """`replaced` does that."""

    def digest(self) -> str:
        """
        Raises:
            OSError: not all could be written.
        """
        if self.error is not None:
            raise self.error
        return self.sha256.hexdigest()
