"""Vectors of real numbers: drawn from a known distribution, or from a file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from vae_lightning import noise
from vae_lightning.data.images import Raw
from vae_lightning.data.split import part
from vae_lightning.data.table import table
from vae_lightning.errors import ConfigError
from vae_lightning.paths import expanded
from vae_lightning.schema import Count, Fraction, NonNegativeInt, Positive

TRAITS = {"values": "real"}
NEEDS = {"data.binarize": (["none"], "vectors are not pixels: say data.binarize=none")}

APART = 2**31  # the noise of training counts minibatches from 0, and never gets there


class Vectors:
    """Vectors (1, 1, D) float32 whose log p(x) is known: x = W z + b + sigma eps, with z and eps standard normal.

    This is probabilistic PCA, Tipping and Bishop (1999): a VAE with linear networks and `likelihood=normal` can reach
    the bound exactly. W and b are drawn once, standard normal. Labels are the signs of the first two z: four classes.
    Or the rows of a file, then without labels (all 0).

    >>> vectors = Vectors(dim=3)
    >>> x, y = vectors.read(None).test
    >>> x.shape, vectors.distribution().log_prob(x[:, 0, 0].double()).shape
    (torch.Size([2000, 1, 1, 3]), torch.Size([2000]))

    Args:
        dim: D.
        latent_dim: of z.
        sigma: of the noise, in units of x.
        n_train, n_test: how many are drawn.
        seed: of W, b and all draws.
        path: a table (N, D), .npy or .csv; what is above does not matter then.
        test_size: its last rows are for test: how many, or below 1 which part.
        standardize: each number to mean 0 and standard deviation 1 over the training set.
    """

    def __init__(
        self,
        dim: Count = 10,
        latent_dim: Count = 2,
        sigma: Positive = 0.1,
        n_train: Count = 10_000,
        n_test: Count = 2_000,
        seed: NonNegativeInt = 0,
        path: str | None = None,
        test_size: NonNegativeInt | Fraction = 0.1,
        standardize: bool = False,
    ) -> None:
        self.dim, self.latent_dim, self.sigma = dim, latent_dim, sigma
        self.n_train, self.n_test, self.seed = n_train, n_test, seed
        self.path = None if path is None else expanded(path)
        self.test_size, self.standardize = test_size, standardize
        self.name = "vectors" if self.path is None else self.path.stem

    def read(self, root: Path | None) -> Raw:
        """All vectors; nothing is read from `root`.

        Raises:
            UserError: the file is no table of numbers.
            ConfigError: it has fewer rows than a split needs.
        """
        known = None
        if self.path is None:
            (x_train, y_train), (x_test, y_test) = self._draw(noise.TRAIN), self._draw(noise.TEST)
            known = self.distribution().log_prob(x_test.double())
        else:
            rows = table(self.path)
            n_test = part(self.test_size, len(rows))
            if not 0 < n_test < len(rows) - 1:
                raise ConfigError(f"data.source.test_size={self.test_size}: there are {len(rows)} rows in all")
            x_train, x_test = rows[:-n_test], rows[-n_test:]
            y_train, y_test = (torch.zeros(len(x), dtype=torch.int64) for x in (x_train, x_test))
        if self.standardize:
            mean, std = x_train.double().mean(0), x_train.double().std(0, correction=0)
            std = torch.where(std > 0, std, 1)  # a column that is always the same becomes 0
            x_train, x_test = ((x - mean) / std for x in (x_train, x_test))
            known = None if known is None else known + std.log().sum()  # the density of x / std is std times as large
        train, test = (x.float()[:, None, None] for x in (x_train, x_test))
        return Raw((train, y_train), (test, y_test), test_log_prob=known)

    def distribution(self) -> LowRankMultivariateNormal:
        """p(x) of the generated vectors before they are standardised, event (D,), float64."""
        w, b = self._weights()
        return LowRankMultivariateNormal(b, w, torch.full_like(b, self.sigma**2))

    def _weights(self) -> tuple[Tensor, Tensor]:
        """W (D, K) and b (D,)."""
        generator = noise.generator("cpu", self.seed, noise.ORDER, APART)
        both = torch.randn(self.dim, self.latent_dim + 1, generator=generator, dtype=torch.float64)
        return both[:, :-1], both[:, -1]

    def _draw(self, stream: int) -> tuple[Tensor, Tensor]:
        """Vectors (N, D) float32, and the quadrant of z (N,)."""
        generator = noise.generator("cpu", self.seed, stream, APART)
        n = self.n_train if stream == noise.TRAIN else self.n_test
        normal = torch.randn(n, self.latent_dim + self.dim, generator=generator, dtype=torch.float64)
        z, eps = normal.split([self.latent_dim, self.dim], 1)
        w, b = self._weights()
        signs = (z[:, :2] > 0).long()
        return (z @ w.T + b + self.sigma * eps).float(), signs @ torch.tensor([1, 2])[: signs.shape[1]]
