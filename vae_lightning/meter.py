"""One way to average, for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Meter:
    """Means over images. The values stay on the device until they are asked for.

    >>> meter = Meter()
    >>> meter.add({"loss": torch.tensor(1.0)}, 3)
    >>> meter.add({"loss": torch.tensor(5.0)}, 1)
    >>> meter.means()
    {'loss': 2.0}
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: list[Tensor] = []  # the values of a minibatch
        self.sizes: list[int] = []  # its images

    def add(self, values: dict[str, Tensor], n: int) -> None:
        """`values` are means over `n` images."""
        self.names = list(values)
        self.rows.append(torch.stack([value.detach() for value in values.values()]))
        self.sizes.append(n)

    def means(self, reduce: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """The means of all that was added since `clear`; `reduce` adds up the sums of all processes."""
        if not self.rows:
            return {}
        rows = torch.stack([row.to(self.rows[-1].device) for row in self.rows])  # some may come from a checkpoint
        if rows.device.type != "mps":  # which knows no float64
            rows = rows.double()
        sizes = rows.new_tensor(self.sizes)
        *sums, n = reduce(torch.cat([sizes @ rows, sizes.sum()[None]])).tolist()
        return {name: value / n for name, value in zip(self.names, sums, strict=True)}

    def clear(self) -> None:
        self.rows, self.sizes = [], []

    def state_dict(self) -> dict[str, Any]:
        return {"names": self.names, "rows": self.rows, "sizes": self.sizes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.names, self.rows, self.sizes = state["names"], list(state["rows"]), list(state["sizes"])
