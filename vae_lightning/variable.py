"""The numbers and categories that a latent is made of, and the rate of each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence


class Variable(NamedTuple):
    """A part of z that is one random variable: a number, or a one-hot vector."""

    first: int  # its place in z.flatten()
    size: int  # 1, or the number of categories


def variables(q: Distribution) -> list[Variable]:
    """What z is made of.

    >>> from torch.distributions import Normal, OneHotCategorical
    >>> variables(Independent(Normal(torch.zeros(5, 2), 1.0), 1))
    [Variable(first=0, size=1), Variable(first=1, size=1)]
    >>> variables(Independent(OneHotCategorical(torch.ones(5, 2, 4)), 1))
    [Variable(first=0, size=4), Variable(first=4, size=4)]
    """
    found: list[Variable] = []
    first = 0
    for factor in _factors(q):
        size = _base(factor).event_shape.numel() if _one_hot(factor) else 1
        found += [Variable(first + i, size) for i in range(0, factor.event_shape.numel(), size)]
        first += factor.event_shape.numel()
    return found


def rates(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q || p) of each variable in nats (B, V), whose sum is the rate; None unless both factorise.

    >>> from torch.distributions import Normal
    >>> p = Independent(Normal(torch.zeros(2), 1.0), 1)
    >>> rates(Independent(Normal(torch.tensor([[0.0, 2.0]]), 1.0), 1), p)
    tensor([[0., 2.]])
    """
    pairs = list(zip(_factors(q), _factors(p), strict=False))
    if sum(factor.event_shape.numel() for factor, _ in pairs) != p.event_shape.numel():
        return None
    if any(_base(factor).event_shape and not _one_hot(factor) for pair in pairs for factor in pair):
        return None
    try:
        parts = [kl_divergence(_base(a), _base(b)) for a, b in pairs]
    except NotImplementedError:
        return None
    return torch.cat([part.flatten(1) if part.dim() > 1 else part.unsqueeze(1) for part in parts], 1)


def _factors(q: Distribution) -> list[Distribution]:
    """The independent parts of a product."""
    parts = getattr(q, "parts", None)
    return [q] if parts is None else [factor for part in parts for factor in _factors(part)]


def _base(q: Distribution) -> Distribution:
    while isinstance(q, Independent):
        q = q.base_dist
    return q


def _one_hot(q: Distribution) -> bool:
    return _base(q).has_enumerate_support  # numbers cannot be listed
