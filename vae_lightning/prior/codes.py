"""p(codes): uniform, or autoregressive."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, distributions, nn

from vae_lightning.distribution.code import Codes as Distribution
from vae_lightning.schema import Count

TRAITS = {"space": "codes", "learned": False}


class Uniform:
    """Every code alike: its rate is P L log K nats."""

    def __init__(self, length: int, codes: int, device: torch.device) -> None:
        self.length, self.codes, self.device = length, codes, device

    def log_prob(self, index: Tensor) -> Tensor:
        """(N, P L) -> nats (N,)."""
        nats = self.length * math.log(self.codes)
        return torch.full((len(index),), -nats, device=index.device, dtype=torch.get_default_dtype())

    def sample(self, n: int) -> Tensor:
        """(n, P L)."""
        return torch.randint(self.codes, (n, self.length), device=self.device)


class Autoregressive(nn.Module):
    """Each code given those before it, by a recurrent network.

    >>> model = Autoregressive(length=3, codes=4, hidden=8)
    >>> model.log_prob(model.sample(5)).shape
    torch.Size([5])
    """

    def __init__(self, length: int, codes: int, hidden: int) -> None:
        super().__init__()
        self.length, self.codes = length, codes
        self.embed = nn.Embedding(codes + 1, hidden)  # the last one stands before the first
        self.place = nn.Parameter(torch.zeros(length, hidden))
        self.recur = nn.GRU(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, codes)

    def log_prob(self, index: Tensor) -> Tensor:
        """(N, P L) -> nats (N,)."""
        start = torch.full_like(index[:, :1], self.codes)
        h, _ = self.recur(self.embed(torch.cat([start, index[:, :-1]], 1)) + self.place)
        return -F.cross_entropy(self.out(h).transpose(1, 2), index, reduction="none").sum(1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """(n, P L)."""
        last = torch.full((n, 1), self.codes, device=self.place.device)
        state, drawn = None, []
        for i in range(self.length):
            h, state = self.recur(self.embed(last) + self.place[i], state)
            last = torch.multinomial(self.out(h[:, 0]).softmax(-1), 1)
            drawn.append(last)
        return torch.cat(drawn, 1)


class Codes(nn.Module):
    """The prior of a codebook. van den Oord et al. (2017), arXiv:1711.00937, sections 3.1 and 3.3.

    `uniform` is their prior in training. `autoregressive` is fitted to the codes while the codebook is trained: no
    gradient goes from it to the codes.

    >>> from types import SimpleNamespace
    >>> from vae_lightning.posterior.codebook import Codebook
    >>> infer = SimpleNamespace(posterior=Codebook((4,), codes=8, grid=[2, 2]))
    >>> Codes((4, 2, 2), infer)(torch.zeros(5, 0)).sample((3,)).shape
    torch.Size([3, 4, 2, 2])

    Args:
        latent_shape: (D, h, w).
        infer: the model's own, whose posterior has the codebook.
        kind: which.
        hidden: width of the recurrent network.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        infer: Any,
        kind: Literal["uniform", "autoregressive"] = "uniform",
        hidden: Count = 128,
    ) -> None:
        super().__init__()
        self._book = (infer.posterior,)  # in a tuple: borrowed
        self.latent_shape = latent_shape
        self.length = infer.posterior.positions * infer.posterior.levels
        codes = infer.posterior.n_codes
        self.model = Autoregressive(self.length, codes, hidden) if kind == "autoregressive" else None

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), event (D, h, w): the same for every context."""
        book = self._book[0]
        indices = self.model or Uniform(self.length, book.n_codes, book.codes.device)
        return Distribution(indices, book, self.latent_shape)
