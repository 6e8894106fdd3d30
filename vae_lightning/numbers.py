"""The numbers that change from one minibatch to the next, as tensors: a recording reads them where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from vae_lightning.anneal import put
from vae_lightning.finite import Finite

if TYPE_CHECKING:
    from vae_lightning.lit import LitVAE

APART = 16  # bytes from one number to the next: compiled code expects that its tensors begin at a multiple of that


class Now(NamedTuple):
    """What they are for a minibatch."""

    annealed: list[float]
    rates: list[float]  # the learning rate of each group of parameters

    @classmethod
    def of(cls, lit: LitVAE, optimizer: Optimizer) -> Now:
        return cls(list(lit.annealed.values()), [group["lr"] for group in optimizer.param_groups])


class Table:
    """Numbers of some minibatches, each a tensor () on the device.

    >>> table = Table(2, 1, torch.device("cpu"), torch.float32)
    >>> table.write([[0.5], [1.0]])
    >>> table.row(1)
    [tensor(1.)]
    """

    def __init__(self, minibatches: int, numbers: int, device: torch.device, dtype: torch.dtype) -> None:
        self.cells = torch.zeros(minibatches, numbers, APART // dtype.itemsize, device=device, dtype=dtype)
        self.here = torch.zeros(minibatches, numbers, dtype=dtype)
        self.written: list[list[float]] = []

    def write(self, rows: list[list[float]]) -> None:
        """One copy to the device, and none where nothing has changed."""
        if rows != self.written and rows[0]:
            self.here.numpy()[:] = rows
            self.cells.copy_(self.here.unsqueeze(-1).expand_as(self.cells), non_blocking=True)
        self.written = rows

    def row(self, k: int) -> list[Tensor]:
        return list(self.cells[k, :, 0].unbind())


class Numbers:
    """Annealed values and learning rates of some minibatches that come one after the other.

    Module and optimiser keep their Python numbers but inside of `used`: schedulers, logs and checkpoints see no tensor.

    Args:
        lit: its annealed values have been set.
        optimizer: of `lit`.
        finite: whether the losses were finite; the optimiser steps only while they are.
        minibatches: how many.
    """

    def __init__(self, lit: LitVAE, optimizer: Optimizer, finite: Finite, minibatches: int) -> None:
        parameter = lit.trained[0]
        self.on_card, self.finite, self.paths = parameter.is_cuda, finite, list(lit.annealed)
        # torch's fused kernels read a learning rate on a card as float32.
        types = {"annealed": parameter.dtype, "rates": torch.float32 if self.on_card else torch.float64}
        n = {"annealed": len(self.paths), "rates": len(optimizer.param_groups)}
        self.annealed, self.rates = (Table(minibatches, n[name], parameter.device, t) for name, t in types.items())

    def write(self, rows: Sequence[Now]) -> None:
        """Give the tensors of each minibatch its numbers."""
        self.annealed.write([now.annealed for now in rows])
        self.rates.write([now.rates for now in rows])

    @contextmanager
    def used(self, lit: LitVAE, optimizer: Optimizer, k: int) -> Iterator[None]:
        """Inside, the tensors of the k-th minibatch stand in the places of the numbers.

        An optimiser that is not fused makes a last step from a bad loss; no checkpoint sees it.
        """
        groups = optimizer.param_groups
        rates, fused = [group["lr"] for group in groups], all(group.get("fused") for group in groups)
        for group, rate in zip(groups, self.rates.row(k), strict=True):
            group["lr"], group["capturable"] = rate, self.on_card
        if fused:
            optimizer.found_inf = self.finite.refused  # type: ignore[attr-defined]  # torch's way to leave a step out
        try:
            with put(lit, dict(zip(self.paths, self.annealed.row(k), strict=True))):
                yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"], group["capturable"] = rate, False
            if fused:
                del optimizer.found_inf  # type: ignore[attr-defined]
