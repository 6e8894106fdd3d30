"""Independent parts of one vector, each with a distribution of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence, register_kl
from torch.types import _size


class Product(Distribution):
    """Vectors (B, D1 + D2 + ...) whose parts are independent.

    >>> from torch.distributions import Independent, Normal, OneHotCategorical
    >>> parts = Independent(Normal(torch.zeros(2), 1.0), 1), OneHotCategorical(logits=torch.zeros(3))
    >>> p = Product(parts)
    >>> p.event_shape, p.log_prob(torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]))  # -log 2 pi - log 3 nats
    (torch.Size([5]), tensor(-2.9365))
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, parts: Sequence[Distribution]) -> None:
        self.parts = list(parts)
        self.sizes = [part.event_shape[0] for part in parts]
        super().__init__(parts[0].batch_shape, torch.Size([sum(self.sizes)]), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return all(part.has_rsample for part in self.parts)

    @property
    def mean(self) -> Tensor:
        return self._each(lambda part: part.mean)

    @property
    def mode(self) -> Tensor:
        return self._each(lambda part: part.mode)

    @property
    def variance(self) -> Tensor:
        return self._each(lambda part: part.variance)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        return self._each(lambda part: part.rsample(sample_shape))

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        return self._each(lambda part: part.sample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """In nats, shape (*batch)."""
        values = value.split(self.sizes, -1)
        return torch.stack([part.log_prob(v) for part, v in zip(self.parts, values, strict=True)]).sum(0)

    def _each(self, what: Callable[[Distribution], Tensor]) -> Tensor:
        return torch.cat([what(part) for part in self.parts], -1)


@register_kl(Product, Product)
def _kl_product(q: Product, p: Product) -> Tensor:
    return torch.stack([kl_divergence(a, b) for a, b in zip(q.parts, p.parts, strict=True)]).sum(0)
