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
def replaced(path: Path, mode: str = "w", **how: Any) -> Iterator[IO[Any]]:
    """A file beside `path` to write into, which takes its place at the end, and leaves it alone if writing fails.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replaced(path) as file:
    ...     _ = file.write("whole")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('whole', 1)
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open(mode, **how) as file:
            yield file
        os.replace(temporary, path)
    except Exception as error:
        if (cause := of_disk(error)) is not None and cause.filename in (None, str(temporary)):
            cause.filename = str(path)  # of a file that is open the system does not say which
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any, allow_nan: bool = True) -> None:
    """A file of JSON for people to read.

    Raises:
        ValueError: a number is not finite, where that is not allowed; nothing was written.
    """
    text = json.dumps(value, indent=2, allow_nan=allow_nan)
    with replaced(path) as file:
        file.write(text + "\n")
