"""One way to average, for training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_lightning.card import Reading


class Point(NamedTuple):
    """Where a point of the curves lies, and what was set there."""

    step: int  # of the optimiser
    epoch: int
    settings: dict[str, float]  # by path


class Meter:
    """Means over images. The values stay on the device until they are asked for.

    >>> meter = Meter()
    >>> meter.add(["loss"], torch.tensor([1.0]), 3)
    >>> meter.add(["loss"], torch.tensor([5.0]), 1)
    >>> meter.means()
    {'loss': 2.0}
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: list[Tensor] = []  # the values of a minibatch
        self.sizes: list[int] = []  # its images
        self.reading: Reading | None = None

    def add(self, names: list[str], values: Tensor, n: int) -> None:
        """`values` (names,) are means over `n` images."""
        self.names = names
        self.rows.append(values)
        self.sizes.append(n)

    def read(self) -> None:
        """Let the values come from the device, and do not wait for them: `means` does. Nothing is added any more."""
        self.reading = Reading(self._table()) if self.rows else None

    def is_here(self) -> bool:
        """Whether what is being read has come."""
        return self.reading is not None and self.reading.is_here()

    def means(self, reduce: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """The means of all that was added; `reduce` adds up the sums of all processes."""
        if not self.rows:
            return {}
        rows = self._read()
        if rows.device.type != "mps":  # which knows no float64
            rows = rows.double()
        sizes = rows.new_tensor(self.sizes)
        *sums, n = reduce(torch.cat([sizes @ rows, sizes.sum()[None]])).tolist()
        return {name: value / n for name, value in zip(self.names, sums, strict=True)}

    def first_not_finite(self, name: str) -> dict[str, float]:
        """What the first minibatch has come to whose value of this name is not finite, or else the last one."""
        rows = self._read().tolist()
        place = self.names.index(name)
        bad = next((row for row in rows if not math.isfinite(row[place])), rows[-1])
        return dict(zip(self.names, bad, strict=True))

    def _table(self) -> Tensor:
        return torch.stack([row.to(self.rows[-1].device) for row in self.rows])  # some may come from a checkpoint

    def _read(self) -> Tensor:
        return self._table() if self.reading is None else self.reading()

    def state_dict(self) -> dict[str, Any]:
        return {"names": self.names, "rows": self.rows, "sizes": self.sizes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.names, self.rows, self.sizes = state["names"], list(state["rows"]), list(state["sizes"])
