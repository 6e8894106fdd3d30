"""A number that changes while a model trains: a warm-up, a cycle, a capacity, a temperature."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from operator import attrgetter
from typing import Literal

import torch
from torch import Tensor, nn

from vae_lightning.schema import Count, Fraction, NonNegative


class Anneal:
    """Lead the attribute `path` of the training module from `start` to `end`.

    The way there takes `epochs` epochs in `cycles` equal parts. In each the value rises from `start` during the first
    `ramp` of the part and then stays at `end`. One cycle with ramp 1 is a warm-up; Fu et al. (2019), arXiv:1903.10145,
    eq. 6-7, take four cycles with ramp 0.5 over the whole run. Where `end` is null, the attribute is left alone.

    >>> warmup = Anneal("loss.beta", start=0.0, end=4.0, epochs=10.0)
    >>> [warmup(epoch) for epoch in (0.0, 5.0, 10.0, 99.0)]
    [0.0, 2.0, 4.0, 4.0]
    """

    def __init__(
        self,
        path: str,
        start: float | None,
        end: float | None,
        epochs: NonNegative = 0.0,
        cycles: Count = 1,
        ramp: Fraction = 1.0,
        shape: Literal["linear", "cosine"] = "linear",
    ) -> None:
        self.path, self.start, self.end = path, start, end
        self.epochs, self.cycles, self.ramp, self.shape = epochs, cycles, ramp, shape

    def __call__(self, epoch: float) -> float | None:
        """The value after `epoch` epochs, a fraction of one included."""
        if self.start is None or self.end is None or self.start == self.end or epoch >= self.epochs:
            return self.end
        cycle = (epoch * self.cycles / self.epochs) % 1.0
        part = min(1.0, cycle / self.ramp) if self.ramp > 0 else 1.0
        if self.shape == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return self.start + part * (self.end - self.start)

    def apply(self, module: nn.Module, value: float) -> None:
        """Set the attribute of `module` to `value`.

        Raises:
            AttributeError: `module` has nothing at `path`.
        """
        target, name = place(module, self.path)
        getattr(target, name)
        setattr(target, name, value)


class Tensors:
    """Numbers that change, as tensors that stay: what was recorded or compiled once reads the value of the day.

    >>> head, tensors = nn.Softplus(beta=1.0), Tensors(torch.device("cpu"), torch.float32)
    >>> with tensors.used(head, {"beta": 3.0}):
    ...     head.beta
    tensor(3.)
    >>> head.beta
    1.0
    >>> other = Tensors(torch.device("cpu"), torch.float32)
    >>> with tensors.used(head, {"beta": 3.0}), other.used(head, {"beta": 4.0}):
    ...     head.beta, other.tensors
    (tensor(3.), {})
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.tensors, self.values = dict[str, Tensor](), dict[str, float]()

    def get(self, name: str, value: float) -> Tensor:
        """The tensor of this name, (), with this value."""
        if name not in self.tensors:
            self.tensors[name] = torch.full((), value, device=self.device, dtype=self.dtype)
        elif self.values[name] != value:
            self.tensors[name].fill_(value)
        self.values[name] = value
        return self.tensors[name]

    def used(self, module: nn.Module, values: Mapping[str, float]) -> AbstractContextManager[None]:
        """Inside, the attributes of `module` at these paths are tensors; see `put`.

        What is a tensor already is left alone: somebody else keeps it.
        """
        mine = {path: value for path, value in values.items() if not torch.is_tensor(attrgetter(path)(module))}
        return put(module, {path: self.get(path, value) for path, value in mine.items()})


@contextmanager
def put(module: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the attributes of `module` at these paths are these tensors; afterwards the numbers that they were."""
    numbers = []
    for path, tensor in tensors.items():
        target, name = place(module, path)
        numbers.append((target, name, getattr(target, name)))
        setattr(target, name, tensor)
    try:
        yield
    finally:
        for target, name, number in numbers:
            setattr(target, name, number)


def place(module: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module that has the attribute `path`, and the name that it has there."""
    owner, _, name = path.rpartition(".")
    return (attrgetter(owner)(module) if owner else module), name
