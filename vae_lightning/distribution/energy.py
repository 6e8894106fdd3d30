"""Costs of a reconstruction that are no likelihood."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Energy(Distribution):
    """exp(-cost(x, mean)), which does not integrate to one.

    >>> Energy(torch.zeros(5, 1, 2, 2), lambda x, mean: (x - mean).square().sum((-3, -2, -1))).log_prob(
    ...     torch.ones(1, 2, 2)
    ... )
    tensor([-4., -4., -4., -4., -4.])

    Args:
        mean: the reconstruction (*batch, C, H, W).
        cost: images and reconstructions, (*batch, C, H, W) each, to nats (*batch).
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.independent(constraints.real, 3)

    def __init__(self, mean: Tensor, cost: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._mean, self.cost = mean, cost
        super().__init__(mean.shape[:-3], mean.shape[-3:])

    @property
    def mean(self) -> Tensor:
        return self._mean

    def log_prob(self, value: Tensor) -> Tensor:
        """The negative energy, shape (*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        return -self.cost(*torch.broadcast_tensors(value, self._mean))
