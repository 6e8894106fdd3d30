"""Accuracies of latents whose answer is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_lightning.metric.representation import Representation, cluster_accuracy, share
from vae_lightning.metric.value import NotApplicable, Value
from vae_lightning.trained import Latents

CLASSES, N = 4, 400
ACCURACIES = ("knn_accuracy", "probe_accuracy", "cluster_accuracy")


def judged(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], **how: Any) -> dict[str, Value]:
    """What the metric says of latents and labels."""
    splits = {"train": train, "test": test}

    def latents(split: str, n: int | None) -> Latents:
        z, y = (part[:n] for part in splits[split])
        return Latents(z, z, y)

    run = SimpleNamespace(latents=latents, model=SimpleNamespace(n_context=0), choices={"data": "digits"})
    return Representation(**how)(run)  # type: ignore[arg-type]


def corners(n: int = N, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    """Clouds at the corners of a simplex."""
    y = torch.arange(n) % CLASSES
    return 3 * torch.eye(CLASSES)[y] + spread * torch.randn(n, CLASSES), y


@pytest.mark.parametrize("clustering", ["kmeans", "mixture"])
def test_of_separate_classes_everything_is_right(clustering: str) -> None:
    values = judged(corners(), corners(), clustering=clustering)
    assert [v.value for v in values.values()] == pytest.approx([1] * 5)
    assert all(values[name].standard_error == 0 for name in ACCURACIES)


def test_of_noise_everything_is_chance() -> None:
    (_, y), (_, y_test) = corners(), corners(1000)
    values = judged((torch.randn(N, 3), y), (torch.randn(1000, 3), y_test))
    for name in ("knn_accuracy", "probe_accuracy"):
        assert abs(values[name].value - 1 / CLASSES) < 4 * (values[name].standard_error or 0)
    assert values["cluster_accuracy"].value < 0.35  # the best assignment of four clusters is a little above chance
    assert abs(values["nmi"].value) < 0.02
    assert abs(values["ari"].value) < 0.02


def test_a_ring_is_for_neighbours_and_not_for_lines() -> None:
    def ring(n: int) -> tuple[Tensor, Tensor]:
        angle, y = 2 * torch.pi * torch.rand(n), torch.arange(n) % 2
        return torch.stack([angle.cos(), angle.sin()], 1) * (1 + 2 * y.unsqueeze(1)), y

    values = judged(ring(N), ring(N))
    assert values["knn_accuracy"].value == 1
    assert values["probe_accuracy"].value < 0.7


def test_labels_are_fitted_on_training_images_and_counted_on_test_images() -> None:
    z, y = corners()
    z_test, y_test = corners()
    values = judged((z, y), (z_test, (y_test + (torch.arange(N) < 100)) % CLASSES))  # a quarter is wrong
    for name in ACCURACIES:
        assert values[name].value == 0.75
        assert values[name].standard_error == pytest.approx((0.75 * 0.25 / N) ** 0.5)


def test_the_probe_does_not_see_the_scale_of_a_latent() -> None:
    y = (torch.arange(N) % 10 < 3).long()
    z = 1e-4 * (y + 0.1 * torch.randn(N)).unsqueeze(1)  # as it is, the weights' penalty would leave a majority vote
    assert judged((z, y), (z, y))["probe_accuracy"].value == 1


def test_images_without_a_label_are_left_out() -> None:
    (z, y), (z_test, y_test) = corners(), corners()
    hidden, hidden_test = torch.arange(N) % 3 == 0, torch.arange(N) < 100
    misled = z.clone()
    misled[hidden] = z[hidden].roll(1, 0)  # would be wrong neighbours, if they counted
    values = judged((misled, y.masked_fill(hidden, -1)), (z_test, y_test.masked_fill(hidden_test, -1)))
    assert [values[name].value for name in ACCURACIES] == pytest.approx([1, 1, 1])
    assert f"of {N - int(hidden.sum())} " in values["knn_accuracy"].note


def test_a_collapsed_posterior_is_chance_without_a_warning() -> None:
    y = torch.arange(N) % CLASSES
    constant = (torch.ones(N, 2), y)
    for clustering in ("kmeans", "mixture"):
        values = judged(constant, constant, clustering=clustering)
        assert [values[name].value for name in ACCURACIES] == pytest.approx([1 / CLASSES] * 3)


@pytest.mark.parametrize("labels", [torch.zeros(N), -torch.ones(N)])
def test_one_class_or_none_is_not_applicable(labels: Tensor) -> None:
    z = torch.randn(N, 2)
    with pytest.raises(NotApplicable, match="no labels of at least two classes"):
        judged((z, labels.long()), (z, labels.long()))


def test_fewer_labels_than_neighbours_are_not_applicable() -> None:
    z, y = corners()
    with pytest.raises(NotApplicable, match="only 3 training images have a label"):
        judged((z, y.masked_fill(torch.arange(N) >= 3, -1)), (z, y))


def test_the_names_of_clusters_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    y, assigned = rng.integers(5, size=300), rng.integers(5, size=300)
    value = cluster_accuracy(y, assigned)
    for names in (rng.permutation(5), np.array([90, 3, 7, 1000, -2])):
        assert cluster_accuracy(y, names[assigned]) == value
        assert cluster_accuracy(names[y], assigned) == value
    assert cluster_accuracy(y, (y + 2) % 5) == 1


def test_two_clusters_cannot_share_a_label() -> None:
    y = np.array([0] * 6 + [1] * 2)
    assert cluster_accuracy(y, np.array([0, 0, 0, 1, 1, 1, 2, 2])) == 5 / 8  # 3 + 2; a majority vote would say 1


def test_a_share_has_its_binomial_error() -> None:
    assert share(0.9, 100).standard_error == pytest.approx(0.03)
