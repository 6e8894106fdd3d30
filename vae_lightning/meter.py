"""One way to average, for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Meter:
    """Means over images. Sums stay on the device until they are asked for.

    >>> meter = Meter()
    >>> meter.add({"loss": torch.tensor(1.0)}, 3)
    >>> meter.add({"loss": torch.tensor(5.0)}, 1)
    >>> meter.means()
    {'loss': 2.0}
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None  # of each name, and the number of images

    def add(self, values: dict[str, Tensor], n: int) -> None:
        """`values` are means over `n` images."""
        one = next(iter(values.values())).new_ones(())
        precise = torch.float32 if one.device.type == "mps" else torch.float64
        row = torch.stack([*values.values(), one]).detach().to(precise) * n
        self.names, self.sums = list(values), row if self.sums is None else self.sums + row

    def means(self, reduce: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """The means since the last call of `clear`; `reduce` adds up the sums of all processes."""
        if self.sums is None:
            return {}
        *sums, n = reduce(self.sums).tolist()
        return {name: value / n for name, value in zip(self.names, sums, strict=True)}

    def clear(self) -> None:
        self.sums = None

    def state_dict(self) -> dict[str, object]:
        return {"names": self.names, "sums": self.sums}

    def load_state_dict(self, state: dict) -> None:
        self.names, self.sums = state["names"], state["sums"]
