"""Which examples go where, and which of them keep their labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_lightning.errors import ConfigError

PORTION = 14  # numbers of each example, of eight bytes if possible, that are in two places while they are moved
TEST_SEED = 0  # the same test set for everybody, where a collection has none of its own


def part(size: float, n: int) -> int:
    """How many of `n` examples `size` means: a count, or below 1 a fraction, rounded down but at least one.

    >>> part(7, 25), part(0.1, 25), part(0.01, 25)
    (7, 2, 1)
    """
    if isinstance(size, int):
        return size
    exact = round(size * n, 6)  # 0.29 * 100 is 28.999999999999996
    return max(1, math.floor(exact)) if size > 0 else 0


def hold_out(n: int, size: float, key: str = "data.source.test_size") -> tuple[Tensor, Tensor]:
    """The indices of the training examples, ascending, and of the test examples, which are drawn at random.

    They stay in the order in which they are drawn, so that the first few stand for all of them.

    >>> [len(indices) for indices in hold_out(10, 0.2)]
    [8, 2]

    Args:
        n: how many examples there are.
        size: of the test set, as for `part`.
        key: where `size` was said.

    Raises:
        ConfigError: there would be no test example, or fewer than two for training and validation.
    """
    held = part(size, n)
    if not 0 < held < n - 1:
        raise ConfigError(f"{key}={size}: there are {n} images in all")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(TEST_SEED))
    return order[held:].sort().values, order[:held]


def divide(x: Tensor, order: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """`x[order[n:]]` and `x[order[:n]]` in the memory of `x` itself, which may be most of what there is.

    >>> divide(torch.tensor([[0], [1], [2]]), torch.tensor([2, 0, 1]), 1)
    (tensor([[0], [1]]), tensor([[2]]))

    Args:
        x: (N, ...), overwritten.
        order: a permutation of 0 to N - 1.
        n: how many come first.
    """
    rows = x.flatten(1)
    eight = all(number * x.element_size() % 8 == 0 for number in (rows.shape[1], rows.storage_offset()))
    wide = rows.view(torch.int64) if eight else rows  # bytes one by one take five times as long
    for columns in wide.split(PORTION, 1):  # a permutation of rows moves every column alike
        columns.copy_(columns.index_select(0, order))
    rows = rows.view(x.shape)
    return rows[n:], rows[:n]


def keep_labels(y: Tensor, n: int) -> Tensor:
    """Labels (N,) of which `n` stay, the first ones of each class in turns; the others become -1.

    So classes differ by one label at most, unless one has fewer examples than its share: it keeps them all. As in
    Kingma et al. (2014), arXiv:1406.5298.

    >>> keep_labels(torch.tensor([0, 0, 0, 1, 1, 2]), 4)
    tensor([ 0,  0, -1,  1, -1,  2])
    """
    order, sizes = y.argsort(stable=True), y.bincount()
    turn = torch.empty_like(y)
    turn[order] = torch.arange(len(y)) - (sizes.cumsum(0) - sizes)[y[order]]  # 0 for the first of a class, then 1, ...
    kept = (turn * len(sizes) + y).argsort()[:n]
    return torch.full_like(y, -1).index_copy(0, kept, y[kept])
