"""Scores of a table of codes and known factors by their mutual information."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

LEAST = 0.05  # of a factor's entropy that a latent has to tell, beyond chance, to have a modularity


def mig(codes: np.ndarray, factors: np.ndarray, bins: int = 20) -> float:
    """The mutual information gap: how much more the best latent tells of a factor than the second best.

    The mean over factors of (I(best; v) - I(second; v)) / H(v). Chen et al. (2018), arXiv:1802.04942, eq. 6, with
    histograms of the codes. It is 1 at best and near 0 if no latent tells more than another.

    >>> v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> round(mig(2.0 * v, v), 3), round(mig(v @ np.array([[1.0, 1.0], [1.0, -1.0]]), v), 3)
    (1.0, 0.0)

    Args:
        codes: (N, D).
        factors: (N, F) whole numbers.
        bins: of equal width, for each latent.
    """
    information = mutual_information(codes, factors, bins)
    entropy = np.array([mutual_info_score(v, v) for v in factors.T])
    ranked = np.sort(np.vstack([np.zeros_like(information[:1]), information]), 0)  # no second latent tells nothing
    return float(((ranked[-1] - ranked[-2]) / entropy).mean())


def modularity(codes: np.ndarray, factors: np.ndarray, bins: int = 20) -> float:
    """How far each latent tells of a single factor. Ridgeway and Mozer (2018), arXiv:1802.05312, section 3.

    The mean over latents of 1 - sum_f (m_f - t_f)^2 / (t^2 (F - 1)): m_f are the mutual informations of a latent, t_f
    is the largest of them, t, at its place and 0 elsewhere. Latents that tell nothing of any factor (see `telling`)
    are left out: what they share with the factors is chance. With no other latent, or one factor only, it is 0.

    >>> v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 50)
    >>> round(modularity(2.0 * v, v), 3), round(modularity(v @ np.array([[1.0], [1.0]]), v), 3)
    (1.0, 0.0)

    Args:
        codes: (N, D).
        factors: (N, F) whole numbers.
        bins: of equal width, for each latent.
    """
    squares = np.square(mutual_information(codes, factors, bins)[telling(codes, factors, bins)])
    if squares.size == 0 or factors.shape[1] == 1:
        return 0.0
    best = squares.max(1)
    return float((1 - (squares.sum(1) - best) / (best * (factors.shape[1] - 1))).mean())


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = 20) -> np.ndarray:
    """I(z_d; v_f) in nats for each latent, in bins, and factor: (D, F)."""
    return np.array([[mutual_info_score(v, z) for v in factors.T] for z in binned(codes, bins).T])


def telling(codes: np.ndarray, factors: np.ndarray, bins: int = 20) -> np.ndarray:
    """Which latents tell something of a factor (D,): more than chance would, by at least 5 % of what there is to tell.

    What chance would is the mean over all orders of the images, as in Vinh et al. (2010), "Information theoretic
    measures for clusterings comparison".
    """
    return np.array([any(_tells(z, v) for v in factors.T) for z in binned(codes, bins).T], dtype=bool)


def _tells(z: np.ndarray, v: np.ndarray) -> bool:
    table = contingency_matrix(v, z)
    chance = expected_mutual_information(table, len(v))
    told: float = mutual_info_score(None, None, contingency=table)
    return bool(told - chance > LEAST * max(mutual_info_score(v, v) - chance, 0))


def binned(codes: np.ndarray, bins: int) -> np.ndarray:
    """Each column in bins of equal width between its extremes: whole numbers below `bins` (N, D).

    >>> binned(np.array([[0.0], [0.4], [0.6], [1.0]]), 2).T
    array([[0, 0, 1, 1]])
    """
    return np.stack([np.digitize(z, np.histogram_bin_edges(z, bins)[1:-1]) for z in codes.T], 1)
