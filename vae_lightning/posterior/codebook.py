"""z is the nearest entry of a codebook, at each position of a grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor, distributions, nn

from vae_lightning.distribution.code import NearestCode
from vae_lightning.gather import add, images, shared, take
from vae_lightning.schema import Count, Fraction, NonNegative

TRAITS = {"space": "codes", "rate": False, "density": False, "strata": False, "factorised": False}
NEEDS = {
    "prior:space": (["codes"], "its latents are codes: say prior=codes loss=vq"),
}


class Codebook(nn.Module):
    """Vector quantisation. van den Oord et al. (2017), arXiv:1711.00937, eq. 1 and 2, and appendix A.1.

    With several levels each quantises what the ones before have left, with one codebook for all: Lee et al. (2022),
    arXiv:2203.01941, eq. 3-5. Codes that nobody uses start again at encodings of the minibatch: Dhariwal et al.
    (2020), arXiv:2005.00341, section 3.1.

    >>> book = Codebook(latent_shape=(4,), codes=8, grid=[2, 2]).eval()
    >>> q = book(torch.randn(5, 4, 2, 2))
    >>> q.code.shape, q.index.shape, torch.equal(book.embed(q.index), q.code)
    (torch.Size([5, 4, 2, 2]), torch.Size([5, 4]), True)

    Args:
        latent_shape: (D,): the length of a code.
        codes: K.
        grid: positions, [h, w]. Where convolutions end on a grid of this size, they give the encodings.
        levels: L codes a position, added up.
        ema: codes follow the mean of their encodings with this decay (equations 6-8 of appendix A.1); 0 gives them
            gradients instead.
        restart_below: a code starts again where its average use in a minibatch falls below so many encodings.
    """

    codes: Tensor
    count: Tensor
    total: Tensor

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        codes: Count = 128,
        grid: list[Count] = [7, 7],  # noqa: B006
        levels: Count = 1,
        ema: Fraction = 0.99,
        restart_below: NonNegative = 0.1,
    ) -> None:
        super().__init__()
        self.latent_shape = self.param_shape = (*latent_shape, *grid)
        self.n_codes, self.levels, self.positions = codes, levels, math.prod(grid)
        self.ema, self.restart_below = ema, restart_below
        start = torch.randn(codes, *latent_shape) / math.sqrt(latent_shape[0])
        if ema > 0:
            self.register_buffer("codes", start)
            self.register_buffer("total", start.clone())
        else:
            self.codes = nn.Parameter(start)
        self.register_buffer("count", torch.ones(codes))

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (B, D, *grid) -> q, batch (B,), event (D, *grid)."""
        encoding = params.flatten(2).transpose(1, 2)  # (B, P, D)
        learn = self.training and torch.is_grad_enabled()
        left, sum_of_codes, indices = encoding, torch.zeros_like(encoding), []
        codebook = commitment = encoding.new_zeros(encoding.shape[0])
        for _ in range(self.levels):
            index = torch.cdist(left.detach(), self.codes.detach()).argmin(-1)
            code = self.codes[index]
            codebook = codebook + (left.detach() - code).square().sum((1, 2))
            if learn:
                self._follow(left.detach(), index)
            sum_of_codes, left = sum_of_codes + code, left - code.detach()
            commitment = commitment + left.square().sum((1, 2))
            indices.append(index)
        z = sum_of_codes.transpose(1, 2).unflatten(2, self.latent_shape[1:])
        return NearestCode(params, z, torch.stack(indices, -1).flatten(1), (codebook, commitment))

    def embed(self, index: Tensor) -> Tensor:
        """Indices (N, P L) -> codes (N, D, *grid)."""
        codes = self.codes[index.unflatten(1, (self.positions, self.levels))].sum(2)
        return codes.transpose(1, 2).unflatten(2, self.latent_shape[1:])

    @torch.no_grad()
    def _follow(self, encodings: Tensor, index: Tensor) -> None:
        """Move each code towards the mean of its encodings (B, P, D); restart those that have none."""
        flat, of = encodings.flatten(0, 1), index.flatten()
        used = add(torch.zeros_like(self.count).index_add_(0, of, torch.ones_like(flat[:, 0])))
        total = add(torch.zeros_like(self.codes).index_add_(0, of, flat))
        n = images(len(encodings)) * self.positions
        chosen = shared(torch.randint(n, (self.n_codes,), device=encodings.device))
        fresh = take(encodings, chosen // self.positions, chosen % self.positions)
        self.count.lerp_(used, 1 - (self.ema or 0.99))
        dead = (self.count < self.restart_below).unsqueeze(1)  # (K, 1)
        self.count.masked_fill_(dead.squeeze(1), 1.0)
        if self.ema > 0:
            self.total.lerp_(total, 1 - self.ema)
            self.total.copy_(torch.where(dead, fresh, self.total))
            self.codes.copy_(self.total / self.count.clamp(min=1e-5).unsqueeze(1))
        else:
            self.codes.copy_(torch.where(dead, fresh, self.codes))
