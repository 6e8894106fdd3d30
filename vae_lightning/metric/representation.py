"""What latents tell of the labels."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vae_lightning.metric.value import Names, NotApplicable, Value
from vae_lightning.progress import track
from vae_lightning.schema import Count
from vae_lightning.trained import Latents, Split, Trained

OF_IMAGES = "of the test images"
ITERATIONS = 5000  # at most, of the linear probe


class Representation:
    """k-NN, a linear probe and clusters of the latent means, fitted on training images, judged on test images.

    Distances of k-NN and clusters are those of the latents as they are, in which what the posterior does not use is
    short; the probe sees each latent with standard deviation 1. Images without a label are left out.

    Args:
        neighbours: the k of k-NN.
        clustering: `kmeans`, or `mixture`: of normal distributions with diagonal covariances.
        train_images: that classifiers and clusters are fitted on.
        images: test images; null: all.
    """

    lower_is_better: Names = ()
    higher_is_better: Names = ("knn_accuracy", "probe_accuracy", "cluster_accuracy", "nmi", "ari")

    def __init__(
        self,
        neighbours: Count = 5,
        clustering: Literal["kmeans", "mixture"] = "kmeans",
        train_images: Count = 10_000,
        images: Count | None = 1000,
    ) -> None:
        self.neighbours, self.clustering = neighbours, clustering
        self.train_images, self.images = train_images, images

    def __call__(self, trained: Trained) -> dict[str, Value]:
        """knn_accuracy, probe_accuracy, cluster_accuracy, nmi, ari.

        Raises:
            NotApplicable: there are fewer than two classes, or hardly any labels.
        """
        (z, y), (z_test, y_test) = (
            _labelled(trained, "train", self.train_images),
            _labelled(trained, "test", self.images),
        )
        classes = np.unique(np.concatenate([y, y_test]))
        if len(np.unique(y)) < 2 or len(np.unique(y_test)) < 2:
            raise NotApplicable(f"data={trained.choices['data']}: these images have no labels of at least two classes")
        if len(y) < self.neighbours:
            raise NotApplicable(f"only {len(y)} training images have a label: say metric.representation.neighbours=1")
        seed = int(torch.randint(2**31, ()))
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
        fits = [
            lambda: KNeighborsClassifier(self.neighbours).fit(z, y).predict(z_test),
            lambda: probe.fit(z, y).predict(z_test),
            lambda: _clusters(self.clustering, len(classes), seed, z, z_test),
        ]
        knn, probed, assigned = [fit() for fit in track(fits, "representation")]
        hidden = ", by an encoder that sees the label" if trained.model.n_context else ""
        chance = np.unique(y_test, return_counts=True)[1].max() / len(y_test)
        return {
            "knn_accuracy": share(
                (knn == y_test).mean(), len(y_test), f"{self.neighbours} nearest of {len(y)} latent means{hidden}"
            ),
            "probe_accuracy": share((probed == y_test).mean(), len(y_test), f"linear probe; chance is {chance:.3f}"),
            "cluster_accuracy": share(
                cluster_accuracy(y_test, assigned), len(y_test), f"{len(classes)} clusters, best one-to-one assignment"
            ),
            "nmi": Value(float(normalized_mutual_info_score(y_test, assigned)), note="of clusters and labels"),
            "ari": Value(float(adjusted_rand_score(y_test, assigned)), note="of clusters and labels; chance is 0"),
        }


def share(accuracy: float, n: int, note: str = "") -> Value:
    """A share of n test images, with its binomial standard error."""
    return Value(float(accuracy), OF_IMAGES, math.sqrt(accuracy * (1 - accuracy) / n), note)


def cluster_accuracy(y: np.ndarray, assigned: np.ndarray) -> float:
    """The share of labels (N,) that clusters (N,) get right under the best one-to-one assignment.

    Xie et al. (2016), arXiv:1511.06335, eq. 10.

    >>> cluster_accuracy(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 7]))
    0.75
    """
    counts = contingency_matrix(y, assigned)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(y))


def _labelled(trained: Trained, split: Split, n: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Latent means (N, D) float64 and labels (N,), of those images that have one."""
    latents: Latents = trained.latents(split, n)
    known = latents.y >= 0
    return latents.mean[known].double().numpy(), latents.y[known].numpy()


def _clusters(how: str, n: int, seed: int, z: np.ndarray, z_test: np.ndarray) -> np.ndarray:
    """The cluster (N,) of each test image."""
    models: dict[str, Any] = {
        "kmeans": KMeans(n, n_init=10, random_state=seed),
        "mixture": GaussianMixture(n, covariance_type="diag", n_init=3, max_iter=500, random_state=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a collapsed posterior has fewer distinct means than n
        return np.asarray(models[how].fit(z).predict(z_test))
