"""Scores of a table of codes and known factors by how well the factors can be predicted."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from vae_lightning.progress import track

Predictor = Literal["boosting", "forest"]
TREES: dict[Predictor, Callable[..., Any]] = {
    "boosting": GradientBoostingClassifier,
    "forest": partial(RandomForestClassifier, max_features=None),  # a tree that may not see the best latent uses others
}


class DCI(NamedTuple):
    """Each lies between 0 and 1."""

    disentanglement: float  # each latent is important for one factor
    completeness: float  # each factor needs one latent
    informativeness: float  # accuracy of the predictions, on rows that were not learnt from


def dci(
    codes: np.ndarray,
    factors: np.ndarray,
    train: int | None = None,
    predictor: Predictor = "boosting",
    trees: int = 100,
    seed: int = 0,
) -> DCI:
    """Disentanglement, completeness and informativeness. Eastwood and Williams (2018), "A framework for the
    quantitative evaluation of disentangled representations", section 2.

    R (D, F) is how important each latent is to trees that predict each factor. Disentanglement is 1 - H_F(P_d), P_d a
    row of R as probabilities and the entropy to base F, averaged with weights proportional to the sums of the rows;
    completeness is 1 - H_D of the columns, averaged.

    >>> v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 10)
    >>> dci(3.0 * v, v, trees=5)
    DCI(disentanglement=1.0, completeness=1.0, informativeness=1.0)

    Args:
        codes: (N, D).
        factors: (N, F) whole numbers.
        train: the first so many rows are learnt from, the others judge; by default two thirds of them.
        predictor: `boosting`, as in Locatello et al. (2019), arXiv:1811.12359, or `forest`, as in the paper: faster.
        trees: for each factor; of boosting, for each value of it.
        seed: of the trees.
    """
    train = _two_thirds(codes) if train is None else train

    def fit(v: np.ndarray) -> tuple[np.ndarray, float]:
        model = TREES[predictor](n_estimators=trees, random_state=seed).fit(codes[:train], v[:train])
        return model.feature_importances_, model.score(codes[train:], v[train:])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # growing trees leaves the interpreter free
        found = list(track(pool.map(fit, factors.T), "predicting factors", factors.shape[1]))
    importance = np.stack([column for column, _ in found], 1)
    return DCI(*concentration(importance), float(np.mean([score for _, score in found])))


def concentration(importance: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness of a matrix (D, F) of importances.

    >>> concentration(np.array([[0.5, 0.5], [0.5, 0.5]])), concentration(np.array([[0.0, 2.0], [1.0, 0.0]]))
    ((0.0, 0.0), (1.0, 1.0))
    """
    rows = importance.sum(1)
    if not rows.any():
        return 0.0, 0.0  # no latent predicts anything
    weighted = rows / rows.sum() * (1 - _entropy(importance))
    return float(weighted.sum()), float((1 - _entropy(importance.T))[importance.any(0)].sum() / importance.shape[1])


def _entropy(rows: np.ndarray) -> np.ndarray:
    """Of each row as probabilities, to base of their number; 0 if there is one only."""
    p = rows / np.maximum(rows.sum(1, keepdims=True), np.finfo(float).tiny)
    nats: np.ndarray = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    return nats / np.log(max(rows.shape[1], 2))


def sap(codes: np.ndarray, factors: np.ndarray, train: int | None = None, categorical: Collection[int] = ()) -> float:
    """How much better the best latent alone predicts a factor than the second best. Kumar et al. (2018),
    arXiv:1711.00848, section 3.

    Predictions are linear: R^2 for factors with an order; for the others the balanced accuracy of a linear support
    vector machine (in place of the paper's thresholds, as in Locatello et al., 2019, who use it for all factors), so
    that chance is 1 / (number of values) and the gap no more than the rest.

    >>> v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 10)
    >>> sap(3.0 * v, v), sap(3.0 * v, v, categorical=[0, 1])
    (1.0, 0.5)

    Args:
        codes: (N, D).
        factors: (N, F) whole numbers.
        train: the first so many rows are learnt from, the others judge; by default two thirds of them.
        categorical: columns of factors without an order.
    """
    train = _two_thirds(codes) if train is None else train
    z = StandardScaler().fit_transform(codes)
    scores = np.stack(
        [_accuracies(z, v, train) if f in categorical else _r_squared(z, v) for f, v in enumerate(factors.T)]
    )
    ranked = np.sort(np.hstack([np.zeros((len(scores), 1)), scores]), 1)  # no second latent predicts nothing
    return float((ranked[:, -1] - ranked[:, -2]).mean())


def _r_squared(z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Of each column of mean 0 and variance 1, or 0, with v."""
    return np.square(z.T @ (v - v.mean()) / len(v)) / v.var()


def _accuracies(z: np.ndarray, v: np.ndarray, train: int) -> np.ndarray:
    """Balanced over the values of v, for each column; C as in Locatello et al. (2019)."""
    linear, judge = LinearSVC(C=0.01, class_weight="balanced", dual=False), v[train:]
    guesses = [linear.fit(z[:train, [d]], v[:train]).predict(z[train:, [d]]) for d in range(z.shape[1])]
    return np.array([recall_score(judge, guess, labels=np.unique(judge), average="macro") for guess in guesses])


def explicitness(codes: np.ndarray, factors: np.ndarray, train: int | None = None) -> float:
    """How well a linear classifier of all latents together tells each value of a factor from the others.

    The area under its ROC curve, averaged over values, then factors. Ridgeway and Mozer (2018), arXiv:1802.05312,
    section 3. Chance is 1/2.

    >>> v = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 10)
    >>> explicitness(v @ np.array([[1.0, 1.0], [1.0, -1.0]]), v)
    1.0

    Args:
        codes: (N, D).
        factors: (N, F) whole numbers.
        train: the first so many rows are learnt from, the others judge; by default two thirds of them.
    """
    train = _two_thirds(codes) if train is None else train
    z = StandardScaler().fit_transform(codes)
    areas = []
    for v in factors.T:
        linear = LogisticRegression(max_iter=10_000).fit(z[:train], v[:train])
        p = linear.predict_proba(z[train:])
        seen = [(v[train:] == value, p[:, k]) for k, value in enumerate(linear.classes_) if (v[train:] == value).any()]
        areas.append(np.mean([roc_auc_score(is_value, score) for is_value, score in seen]))
    return float(np.mean(areas))


def _two_thirds(rows: np.ndarray) -> int:
    return max(1, len(rows) * 2 // 3)
