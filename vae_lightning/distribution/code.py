"""Points of a codebook. Shapes: B batch, D latent, P positions, L levels, K codes."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.types import _size


class NearestCode(Distribution):
    """All mass on one code a position; `rsample` is straight-through. van den Oord et al. (2017), arXiv:1711.00937.

    Args:
        encoding: the network's output (B, D, *grid).
        code: what it was rounded to, likewise.
        index: of the codes (B, P L): a position after the other, its levels together.
        cost: of codebook and of commitment, (B,) each.
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real
    has_rsample = deterministic = True

    def __init__(self, encoding: Tensor, code: Tensor, index: Tensor, cost: tuple[Tensor, Tensor]) -> None:
        self.encoding, self.code, self.index = encoding, code, index
        self.codebook_cost, self.commitment_cost = cost
        super().__init__(code.shape[:1], code.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.code

    @property
    def mode(self) -> Tensor:
        return self.code

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """The code, (*sample_shape, B, D, *grid), with the gradient of the encoding (section 3.2)."""
        z = self.encoding + (self.code - self.encoding).detach()
        return z.expand(*sample_shape, *z.shape)


class Book(Protocol):
    """What a prior over codes knows of the codebook."""

    n_codes: int
    levels: int
    positions: int

    def embed(self, index: Tensor) -> Tensor:
        """(N, P L) -> (N, D, *grid)."""


class Indices(Protocol):
    """A distribution of indices."""

    def log_prob(self, index: Tensor) -> Tensor:
        """(N, P L) -> nats (N,)."""

    def sample(self, n: int) -> Tensor:
        """(n, P L)."""


class Codes(Distribution):
    """Codes whose indices have a distribution: z (D, *grid)."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real

    def __init__(self, indices: Indices, book: Book, event_shape: tuple[int, ...]) -> None:
        self.indices, self.book = indices, book
        super().__init__(torch.Size(), torch.Size(event_shape), validate_args=False)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, D, *grid)."""
        with torch.no_grad():
            z = self.book.embed(self.indices.sample(torch.Size(sample_shape).numel()))
        return z.unflatten(0, sample_shape) if sample_shape else z[0]


@register_kl(NearestCode, Codes)
def _kl_code(q: NearestCode, p: Codes) -> Tensor:
    """-log p(index) in nats, shape (B,)."""
    return -p.indices.log_prob(q.index)
