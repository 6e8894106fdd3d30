"""The whole minibatch, of which each process sees a part: what it takes for a value not to depend on their number.

The processes' losses are averaged, each with the weight of its images. Everything here is differentiable, so that the
gradient is that of the average whatever a loss makes of the images of the others: the same as of one process.

Outside of `over`, and with one process, the images at hand are the whole minibatch, and nothing is communicated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributions import Distribution

D = TypeVar("D", bound=Distribution)


class Part(NamedTuple):
    """Which images are here: every `world`-th of `total`, from image `rank` on."""

    total: int
    rank: int
    world: int

    @property
    def size(self) -> int:
        """How many; 0 if the one image at hand only keeps the other processes company."""
        return len(range(self.rank, self.total, self.world))


_part: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def over(total: int) -> Iterator[None]:
    """Inside, the images at hand are this process's part of a minibatch of `total`; all processes take the same way."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        yield
        return
    token = _part.set(Part(total, dist.get_rank(), dist.get_world_size()))
    try:
        yield
    finally:
        _part.reset(token)


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient of the sum of all losses, likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _sum(gradients[0])


def _sum(x: Tensor) -> Tensor:
    summed: Tensor = _Sum.apply(x)
    return summed


def gather(x: Tensor, dim: int = 0) -> Tensor:
    """x, with a row for each image here along `dim` -> with a row for each of the minibatch, in its order.

    >>> z = torch.randn(5, 2)
    >>> gather(z) is z  # no other process
    True
    """
    part = _part.get()
    if part is None:
        return x
    shape = list(x.shape)
    shape[dim] = part.total
    rows = torch.arange(part.total, device=x.device)[part.rank :: part.world]
    return _sum(x.new_zeros(shape).index_copy(dim, rows, x.narrow(dim, 0, part.size)))


def gather_batch(q: D) -> D:
    """Distributions of the images here, batch (B,) -> those of the whole minibatch, from the parameters of each.

    `q` is of a family that is made of its `arg_constraints`, as a normal distribution is of `loc` and `scale`.
    """
    if _part.get() is None:
        return q
    family: Any = type(q)
    gathered: D = family(**{name: gather(getattr(q, name)) for name in q.arg_constraints})
    return gathered


def mine(x: Tensor) -> Tensor:
    """Rows of the whole minibatch -> those of the images here. Where only a mean is asked for, they are enough."""
    part = _part.get()
    if part is None:
        return x
    return x[part.rank :: part.world] if part.size else x[:1]


def add(x: Tensor) -> Tensor:
    """What the images here add up to -> what those of the whole minibatch do."""
    part = _part.get()
    if part is None:
        return x
    return _sum(x if part.size else torch.zeros_like(x))


def average(x: Tensor) -> Tensor:
    """A mean over the images here -> over those of the whole minibatch. For what is no mean of the images' costs."""
    part = _part.get()
    return x if part is None else _sum(x * (part.size / part.total))


def shared(x: Tensor) -> Tensor:
    """The values of the first process: for noise that is no image's own."""
    part = _part.get()
    if part is None:
        return x
    return _sum(x if part.rank == 0 else torch.zeros_like(x))


def images(here: int) -> int:
    """How many images the whole minibatch has, of which `here` are here."""
    part = _part.get()
    return here if part is None else part.total


def take(x: Tensor, row: Tensor, place: Tensor) -> Tensor:
    """`x[row, place]` (K, ...) of x (B, P, ...), where `row` counts the images of the whole minibatch.

    >>> take(torch.arange(6).view(3, 2), torch.tensor([2, 0]), torch.tensor([1, 0]))
    tensor([5, 0])
    """
    part = _part.get()
    if part is None:
        return x[row, place]
    here = row % part.world == part.rank
    found = x[torch.where(here, row // part.world, 0), place]
    return _sum(torch.where(here.view(-1, *[1] * (found.dim() - 1)), found, 0))
