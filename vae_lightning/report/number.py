"""Numbers with as many digits as mean something."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """The values of one measure over runs that differ by their seed alone.

    >>> Cell((1.0, 2.0, 6.0)).mean, Cell((1.0, 2.0, 6.0)).std, Cell((1.0,)).std
    (3.0, 2.6457513110645907, None)
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """The standard deviation of a sample, with n - 1; None for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def shown(self, decimals: int) -> str:
        """`12.3 ± 0.4`, or `12.3` of a single value."""
        return shown(self.mean, decimals) + (f" ± {self.std:.{decimals}f}" if self.std is not None else "")


def shown(value: float, decimals: int) -> str:
    """A number of so many decimals; one that would be all zeros in a short form.

    >>> shown(289.954, 2), shown(0.0000123, 4), shown(-0.5, 1) == "\N{MINUS SIGN}0.5"
    ('289.95', '1.2e-05', True)
    """
    text = f"{value:.{decimals}f}"
    return (f"{value:.1e}" if value and not float(text) else text).replace("-", "\N{MINUS SIGN}", value < 0)


def decimals(cells: Iterable[Cell]) -> int:
    """Decimals for a whole column: two digits of the typical spread, or five digits in all where nothing is spread.

    >>> decimals([Cell((98.51, 98.43))]), decimals([Cell((98.51,)), Cell((101.0,))]), decimals([Cell((0.98765,))])
    (3, 2, 5)
    """
    cells = list(cells)
    spreads = [cell.std for cell in cells if cell.std]
    if spreads:
        return _clamped(1 - math.floor(math.log10(statistics.median(spreads))))
    if all(value.is_integer() for cell in cells for value in cell.values):
        return 0
    largest = max((abs(cell.mean) for cell in cells), default=0.0)
    return _clamped(4 - math.floor(math.log10(largest))) if largest else 0


def _clamped(decimals: int) -> int:
    return min(max(decimals, 0), 6)
