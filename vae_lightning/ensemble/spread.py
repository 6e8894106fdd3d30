"""Numbers of a network and its loss that are not the same in all jobs: inside of `vmap`, tensors in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[int, str]  # which module, and the name of its attribute


class Spread:
    """Watches all numbers that the modules of several jobs keep as attributes, as `loss.beta` is one.

    Args:
        jobs: the modules of each job, in the same order.
    """

    def __init__(self, jobs: Sequence[Sequence[nn.Module]]) -> None:
        self.modules = jobs[0]
        self.watched = [(place, [vars(modules[place[0]]) for modules in jobs]) for place in _places(jobs[0])]
        self.known: dict[Place, tuple[list[float], Tensor]] = {}

    def values(self, like: Tensor) -> dict[Place, Tensor]:
        """Those that differ now, (J,) each, of the type of `like`."""
        found = {}
        for place, homes in self.watched:
            numbers = [home[place[1]] for home in homes]
            if numbers.count(numbers[0]) < len(numbers):
                known = self.known.get(place)
                if known is None or known[0] != numbers:
                    known = self.known[place] = numbers, torch.tensor(numbers, dtype=like.dtype, device=like.device)
                found[place] = known[1]
        return found

    @contextmanager
    def put(self, values: dict[Place, Tensor]) -> Iterator[None]:
        """Inside, the modules of the first job have these in place of their numbers."""
        before = {(i, name): vars(self.modules[i])[name] for i, name in values}
        self._set(values)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, values: dict[Place, Any]) -> None:
        for (i, name), value in values.items():
            vars(self.modules[i])[name] = value


def differing(jobs: Sequence[Sequence[nn.Module]]) -> dict[Place, list[float]]:
    """Those that are not the same in all jobs, and what they are in each."""
    found = {(i, name): [vars(modules[i])[name] for modules in jobs] for i, name in _places(jobs[0])}
    return {place: numbers for place, numbers in found.items() if numbers.count(numbers[0]) < len(numbers)}


def _places(modules: Sequence[nn.Module]) -> list[Place]:
    """Where numbers are; those of torch's own modules are among them, as the `p` of dropout is."""
    known = [(i, name, type(value)) for i, module in enumerate(modules) for name, value in vars(module).items()]
    return [(i, name) for i, name, kind in known if kind in (int, float) and not name.startswith("_")]
