"""A table of numbers from a file."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_lightning.data.npy import declared
from vae_lightning.errors import UserError
from vae_lightning.paths import no_file


def table(path: Path) -> Tensor:
    """The numbers (N, D) float64 in a `.npy` file, or in a `.csv` file with commas and perhaps a first line of names.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("height,width\\n1,2\\n3,4.5\\n")
    >>> table(path)
    tensor([[1.0000, 2.0000], [3.0000, 4.5000]], dtype=torch.float64)

    Raises:
        UserError: there is no such file, or it is no table of finite numbers; says what is wrong with it.
    """
    if path.suffix.lower() not in (".npy", ".csv"):
        raise UserError(f"{path}: a table is a .npy or a .csv file")
    if wrong := no_file(path):
        raise UserError(f"{path}: {wrong}; name one with data.source.path=<file>")
    try:
        values = _npy(path) if path.suffix.lower() == ".npy" else _csv(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, MemoryError, csv.Error) as error:
        raise UserError(f"{path}: {error}") from error
    if values.ndim != 2 or 0 in values.shape:
        raise UserError(f"{path}: a table has rows and columns, shape (N, D), not {values.shape}")
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(values.astype(np.float32)).all(1))  # float32 is what is served
    if len(bad):
        more = f" (and {len(bad) - 1} more rows)" if len(bad) > 1 else ""
        raise UserError(f"{path}: row {bad[0] + 1} of the numbers holds NaN or infinity{more}; take such rows out")
    return torch.from_numpy(values.astype(np.float64))


def _npy(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        shape, dtype = declared(file)
        there = path.stat().st_size - file.tell()
    if dtype.hasobject:
        raise ValueError("holds Python objects (a pickle), which could run code; save an array of numbers")
    if dtype.kind not in "fiub":
        raise ValueError(f"holds {dtype}, not numbers")
    if (size := math.prod(shape) * dtype.itemsize) > there:
        raise ValueError(f"is cut off: {there} bytes of numbers, and {shape} of {dtype} take {size}")
    return np.asarray(np.load(path, allow_pickle=False))


def _csv(path: Path) -> np.ndarray:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [(reader.line_num, row) for reader in [csv.reader(file)] for row in reader if row]
    if rows and not any(map(_is_number, rows[0][1])):
        rows = rows[1:]  # names
    if not rows:
        raise ValueError("holds no rows of numbers")
    columns = len(rows[0][1])
    for line, row in rows:
        if len(row) != columns:
            raise ValueError(f"line {line} has {len(row)} values, and line {rows[0][0]} has {columns}")
        for cell in row:
            if not _is_number(cell):
                raise ValueError(f"line {line}: {cell!r} is not a number")
    return np.array([list(map(float, row)) for _, row in rows])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
