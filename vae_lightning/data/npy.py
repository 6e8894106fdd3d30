"""What a .npy file says of itself, before any memory is taken for it."""

from __future__ import annotations

from typing import IO

import numpy as np


def declared(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the type of the numbers that follow; `file` stands before them then.

    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.zeros((3, 2)))
    >>> _ = file.seek(0)
    >>> declared(file)
    ((3, 2), dtype('float64'))

    Raises:
        ValueError: this is no .npy file.
    """
    try:
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[np.lib.format.read_magic(file)[0]](file)
    except Exception as error:  # NumPy reads it with Python's own parser, which raises many things
        raise ValueError("is not a .npy file; numpy.save writes one") from error
    if any(n < 0 for n in shape):
        raise ValueError(f"declares the shape {shape}")
    return shape, dtype
