"""A number that changes while a model trains: a warm-up, a cycle, a capacity, a temperature."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Literal

from torch import nn

from vae_lightning.schema import Count, Fraction, NonNegative


class Anneal:
    """Lead the attribute `path` of the training module from `start` to `end`.

    The way there takes `epochs` epochs in `cycles` equal parts. In each the value rises from `start` during the first
    `ramp` of the part and then stays at `end`. One cycle with ramp 1 is a warm-up; Fu et al. (2019), arXiv:1903.10145,
    eq. 6-7, take four cycles with ramp 0.5 over the whole run.

    >>> warmup = Anneal("loss.beta", start=0.0, end=4.0, epochs=10.0)
    >>> [warmup(epoch) for epoch in (0.0, 5.0, 10.0, 99.0)]
    [0.0, 2.0, 4.0, 4.0]
    """

    def __init__(
        self,
        path: str,
        start: float,
        end: float,
        epochs: NonNegative = 0.0,
        cycles: Count = 1,
        ramp: Fraction = 1.0,
        shape: Literal["linear", "cosine"] = "linear",
    ) -> None:
        self.path, self.start, self.end = path, float(start), float(end)
        self.epochs, self.cycles, self.ramp, self.shape = epochs, cycles, ramp, shape

    def __call__(self, epoch: float) -> float:
        """The value after `epoch` epochs, a fraction of one included."""
        if epoch >= self.epochs or self.start == self.end:
            return self.end
        cycle = (epoch * self.cycles / self.epochs) % 1.0
        part = min(1.0, cycle / self.ramp) if self.ramp > 0 else 1.0
        if self.shape == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return self.start + part * (self.end - self.start)

    def apply(self, module: nn.Module, epoch: float) -> float:
        """Set the attribute of `module` to its value after `epoch` epochs, and return it.

        Raises:
            AttributeError: `module` has nothing at `path`.
        """
        owner, _, name = self.path.rpartition(".")
        target = attrgetter(owner)(module) if owner else module
        getattr(target, name)
        value = self(epoch)
        setattr(target, name, value)
        return value
