"""Scores from small samples of images that agree in one known factor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

AT_ONCE = 2**23  # numbers in memory


def factor_vae_score(
    codes: np.ndarray,
    factors: np.ndarray,
    train_votes: int = 10000,
    eval_votes: int = 5000,
    batch: int = 64,
    least_variance: float = 0.05,
    seed: int = 0,
) -> float:
    """How often the latent that varies least tells which factor was held fixed. Kim and Mnih (2018), arXiv:1802.05983.

    A vote: hold one factor at one value, draw a batch of images that have it, and take the latent with the least
    variance, relative to that over all images. Each latent stands for the factor that it was chosen for most often
    in training; the score is the part of the other votes that are right (section 4). Chance is about 1/F.

    >>> v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> factor_vae_score(3.0 * v, v, 200, 100)
    1.0

    Args:
        codes: (N, D).
        factors: (N, F) whole numbers.
        train_votes: to choose a factor for each latent.
        eval_votes: to count how often it is the right one.
        batch: images per vote, at least 2.
        least_variance: latents that vary less have collapsed and get no vote; if all have, the score is 0.
        seed: of the draws.
    """
    variance = codes.var(0)
    active = variance > least_variance
    if not active.any():
        return 0.0
    z = codes[:, active] / np.sqrt(variance[active])
    rng, alike, count = np.random.default_rng(seed), Alike(factors), np.zeros((2, z.shape[1], factors.shape[1]), int)
    for part, votes in enumerate((train_votes, eval_votes)):
        for n in _portions(votes, batch * z.shape[1]):
            fixed, image = rng.integers(factors.shape[1], size=(n, 1)), rng.integers(len(z), size=(n, 1))
            drawn = alike.draw(rng, fixed, np.broadcast_to(image, (n, batch)))
            np.add.at(count[part], (z[drawn].var(1).argmin(1), fixed[:, 0]), 1)
    stands_for = count[0].argmax(1)
    return float(count[1][np.arange(len(stands_for)), stands_for].sum() / eval_votes)


def beta_vae_score(
    codes: np.ndarray,
    factors: np.ndarray,
    train_votes: int = 10000,
    eval_votes: int = 5000,
    batch: int = 64,
    seed: int = 0,
) -> float:
    """How well a linear classifier tells which factor pairs of images have in common. Higgins et al. (2017), beta-VAE.

    A vote: choose a factor, draw a batch of pairs that agree in it, and average |z_1 - z_2| over the batch; a logistic
    regression learns to tell the factor from that (section 3 of the paper). Chance is 1/F.

    >>> v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> beta_vae_score(3.0 * v, v, 200, 100)
    1.0

    Args:
        codes: (N, D).
        factors: (N, F) whole numbers, F at least 2.
        train_votes: to learn from.
        eval_votes: to be judged by.
        batch: pairs per vote.
        seed: of the draws.
    """
    rng, alike = np.random.default_rng(seed), Alike(factors)
    fixed = rng.integers(factors.shape[1], size=(train_votes + eval_votes, 1))
    differences = []
    for portion in np.split(fixed, np.cumsum(list(_portions(len(fixed), batch * codes.shape[1])))[:-1]):
        first = rng.integers(len(codes), size=(len(portion), batch))
        differences.append(np.abs(codes[first] - codes[alike.draw(rng, portion, first)]).mean(1))
    x, y = np.concatenate(differences), fixed[:, 0]
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000)).fit(x[:train_votes], y[:train_votes])
    return float(linear.score(x[train_votes:], y[train_votes:]))


class Alike:
    """Draws images that agree with given ones in a factor, from a table of factors (N, F).

    >>> alike = Alike(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    >>> set(map(int, alike.draw(np.random.default_rng(0), np.array(1), np.full(99, 2)))) == {0, 2}
    True
    """

    def __init__(self, factors: np.ndarray) -> None:
        self.order = factors.argsort(0, kind="stable").T  # (F, N): images by value
        values = np.take_along_axis(factors.T, self.order, 1)
        pairs = list(zip(values, factors.T, strict=True))
        self.start = np.stack([np.searchsorted(by_value, v) for by_value, v in pairs])  # (F, N): of an image's group
        self.size = np.stack([np.searchsorted(by_value, v, "right") for by_value, v in pairs]) - self.start

    def draw(self, rng: np.random.Generator, factor: np.ndarray, image: np.ndarray) -> np.ndarray:
        """For each image, with replacement, one that has the same value of the factor: the shape of both together."""
        size = self.size[factor, image]
        drawn: np.ndarray = self.order[factor, self.start[factor, image] + rng.integers(size)]
        return drawn


def _portions(total: int, numbers: int) -> Iterator[int]:
    """`total` in parts of so many that each takes little memory, if each takes `numbers`."""
    size = max(1, AT_ONCE // numbers)
    return (min(size, total - done) for done in range(0, total, size))
