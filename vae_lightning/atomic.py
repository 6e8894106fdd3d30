"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vae_lightning.errors import of_disk


@contextmanager
def replaced(path: Path, mode: str = "w", durable: bool = False, **how: Any) -> Iterator[IO[Any]]:
    """A file beside `path` to write into, which takes its place at the end, and leaves it alone if writing fails.

    Beside it, as no file can be renamed from one file system to another, and what is done instead can be cut off.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replaced(path) as file:
    ...     _ = file.write("whole")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('whole', 1)

    Args:
        path: of the file.
        mode, how: as `open` takes them.
        durable: it is on the disk before it takes its place, and there after a power cut too.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # it may be a link, to anywhere
    try:
        with open(temporary, mode, opener=_anew, **how) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _flush_folder(path.parent)
    except Exception as error:
        if (cause := of_disk(error)) is not None and cause.filename in (None, str(temporary)):
            cause.filename = str(path)  # of a file that is open the system does not say which
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _anew(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o666)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> list[Path]:
    """Remove what a process that was killed has left half written in `folder`, and say what that was."""
    stale = sorted(folder.glob(".*.tmp")) if folder.is_dir() else []
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def write_json(path: Path, value: Any, allow_nan: bool = True) -> None:
    """A file of JSON for people to read.

    Raises:
        ValueError: a number is not finite, where that is not allowed; nothing was written.
    """
    text = json.dumps(value, indent=2, allow_nan=allow_nan)
    with replaced(path) as file:
        file.write(text + "\n")
