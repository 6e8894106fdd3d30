"""Scores of disentanglement on representations with a known answer, and against their definitions, slowly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor
from torch.distributions import Independent, Normal

from vae_lightning.evaluate.evaluate import evaluate
from vae_lightning.metric.disentanglement import Disentanglement
from vae_lightning.metric.mutual_information import mig, modularity, mutual_information, telling
from vae_lightning.metric.predictors import concentration, dci, explicitness, sap
from vae_lightning.metric.value import NotApplicable
from vae_lightning.metric.votes import Alike, beta_vae_score, factor_vae_score
from vae_lightning.trained import Batch

VALUES = (4, 3, 5)
VOTES = {"train_votes": 400, "eval_votes": 400, "batch": 32}
SCORES: dict[str, Callable[..., float]] = {
    "mig": mig,
    "modularity": modularity,
    "disentanglement": lambda z, v: dci(z, v, trees=5).disentanglement,
    "completeness": lambda z, v: dci(z, v, trees=5).completeness,
    "informativeness": lambda z, v: dci(z, v, trees=5).informativeness,
    "disentanglement by forest": lambda z, v: dci(z, v, predictor="forest", trees=5).disentanglement,
    "completeness by forest": lambda z, v: dci(z, v, predictor="forest", trees=5).completeness,
    "sap": sap,
    "factor_vae": lambda z, v: factor_vae_score(z, v, **VOTES),
    "beta_vae": lambda z, v: beta_vae_score(z, v, **VOTES),
    "explicitness": explicitness,
}


def grid(times: int = 10, values: tuple[int, ...] = VALUES) -> np.ndarray:
    """Every combination of the values, several times, in disorder (N, F)."""
    every = np.indices(values).reshape(len(values), -1).T
    return np.random.default_rng(0).permutation(np.tile(every, (times, 1)))


def standard(v: np.ndarray) -> np.ndarray:
    return (v - v.mean(0)) / v.std(0)


def noise(n: int, dims: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dims))


PERFECT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one for one": lambda v: standard(v),
    "scaled and moved": lambda v: standard(v) * [0.3, -5.0, 40.0] + [100.0, 0.0, -3.0],
    "permuted": lambda v: standard(v)[:, [2, 0, 1]],
    "with noise": lambda v: np.hstack([noise(len(v), 2), standard(v), noise(len(v), 3, 2)]),
    "with constants": lambda v: np.hstack([np.full((len(v), 2), 0.7), standard(v)]),
    "with collapsed latents": lambda v: np.hstack([standard(v), 1e-3 * noise(len(v), 2)]),
    "uncertain": lambda v: standard(v) + 0.02 * noise(len(v), 3),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("how", PERFECT)
def test_one_latent_for_each_factor_is_perfect(how: str, score: str) -> None:
    """MIG takes as many images as published: what noise tells of a factor by chance falls with 1 / N."""
    v = grid(150 if score == "mig" else 15)
    assert 0.99 <= SCORES[score](PERFECT[how](v), v) <= 1 + 1e-9


def test_a_rotation_of_all_factors_into_all_latents_is_not_disentangled_but_informative() -> None:
    """Each latent is half of each factor, plus or minus: all of them tell the same."""
    v = grid(12, (4, 4, 4, 4))
    z = (2 * v - 3) @ np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    disentanglement, completeness, informativeness = dci(z, v, predictor="forest", trees=10)
    assert mig(z, v) == pytest.approx(0)
    assert sap(z, v) == pytest.approx(0)
    assert modularity(z, v) == pytest.approx(0)
    assert disentanglement < 0.05
    assert completeness < 0.05
    assert informativeness == 1
    assert explicitness(z, v) > 0.99  # a rotation is linear
    assert factor_vae_score(z, v, **VOTES) < 0.4
    assert beta_vae_score(z, v, **VOTES) < 0.4


def test_noise_scores_chance() -> None:
    v = grid(20)
    z = noise(len(v), 6)
    found = dci(z, v, trees=10)
    assert mig(z, v) < 0.02
    assert sap(z, v) < 0.02
    assert modularity(z, v) == 0
    assert not telling(z, v).any()
    assert found.disentanglement < 0.1
    assert found.completeness < 0.1
    chance = np.mean([1 / n for n in VALUES])
    assert found.informativeness == pytest.approx(chance, abs=0.06)
    assert explicitness(z, v) == pytest.approx(0.5, abs=0.05)
    assert factor_vae_score(z, v, 3000, 3000, 32) == pytest.approx(1 / 3, abs=0.1)  # the table is finite
    assert beta_vae_score(z, v, 3000, 3000, 32) == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize("score", SCORES)
def test_the_order_of_latents_and_of_factors_does_not_matter(score: str) -> None:
    v = grid()
    z = np.hstack([standard(v) @ np.array([[1, 0.3, 0], [0, 1, 0.3], [0.5, 0, 1]]), noise(len(v), 1)])
    exact = score in ("mig", "modularity", "sap", "explicitness")
    found = SCORES[score](z[:, [2, 0, 3, 1]], v[:, [1, 2, 0]])
    assert found == pytest.approx(SCORES[score](z, v), abs=1e-4 if exact else 0.1)  # other votes, other ties of trees


def mixed() -> tuple[np.ndarray, np.ndarray]:
    """Votes go wrong now and then."""
    v = grid(20)
    return standard(v) @ np.array([[1, 0.8, 0], [0, 1, 0.8], [0.8, 0, 1]]) + noise(len(v), 3) * 0.5, v


@pytest.mark.parametrize("score", SCORES)
def test_the_scale_and_the_sign_of_a_latent_do_not_matter(score: str) -> None:
    z, v = mixed()
    tolerance = 0.05 if "by" in score or score in ("disentanglement", "completeness", "informativeness") else 1e-4
    assert SCORES[score](z * [2, -0.5, 64], v) == pytest.approx(SCORES[score](z, v), abs=tolerance)  # ties of trees


@pytest.mark.parametrize("score", SCORES)
def test_a_collapsed_posterior_has_scores(score: str) -> None:
    """All latents are constant: no gap, no vote, no importance, guesses."""
    v = grid()
    least = {"informativeness": (0.1, 0.4), "beta_vae": (0.2, 0.45), "explicitness": (0.5, 0.5)}
    low, high = least.get(score, (0, 0))
    assert low <= SCORES[score](np.zeros((len(v), 4)), v) <= high


def test_two_factors_in_one_latent_are_complete_but_not_modular() -> None:
    v = grid(30, (4, 4))
    z = np.stack([4.0 * v[:, 0] + v[:, 1], np.zeros(len(v))], 1)
    assert mig(z, v) == pytest.approx(1)
    assert modularity(z, v) == pytest.approx(0)
    assert dci(z, v, trees=20) == pytest.approx((0, 1, 1), abs=0.01)
    assert factor_vae_score(z, v, 2000, 2000, 32) == pytest.approx(0.5, abs=0.05)  # one latent has all votes


def test_a_factor_in_two_latents_is_modular_but_not_compact() -> None:
    v = grid()
    z = np.hstack([standard(v), -2 * standard(v)])
    assert mig(z, v) == pytest.approx(0)
    assert sap(z, v) == pytest.approx(0)
    assert modularity(z, v) == pytest.approx(1)
    assert factor_vae_score(z, v, **VOTES) == 1
    assert dci(z, v, trees=5).disentanglement == pytest.approx(1)


def test_a_latent_that_half_tells_has_half_the_gap() -> None:
    """z is the higher bit of a factor of four values, and all of the other: (1/2 + 1) / 2."""
    v = grid(10, (4, 4))
    assert mig(np.stack([v[:, 0] // 2, v[:, 1]], 1).astype(float), v) == pytest.approx(0.75)


def table(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, 4) that tell something of all factors (n, 3), which are not independent."""
    rng = np.random.default_rng(3)
    v = rng.integers((2, 3, 4), size=(n, 3))
    v[::4, 2] = v[::4, 1]
    return v @ rng.normal(size=(3, 4)) + 0.3 * rng.normal(size=(n, 4)), v


def slow_information(z: list[int], v: list[int]) -> float:
    """sum_ab p(a, b) log(p(a, b) / (p(a) p(b)))."""
    pairs, n = list(zip(z, v, strict=True)), len(v)
    joint = {pair: pairs.count(pair) / n for pair in pairs}
    return sum(p * math.log(p / (z.count(a) / n * v.count(b) / n)) for (a, b), p in joint.items())


def slow_bins(z: np.ndarray, bins: int) -> list[int]:
    return [min(int((x - z.min()) / (z.max() - z.min()) * bins), bins - 1) for x in z]


@pytest.mark.parametrize("bins", [3, 20])
def test_mig_and_modularity_are_those_of_their_papers(bins: int) -> None:
    z, v = table()
    latents, factors = [slow_bins(column, bins) for column in z.T], v.T.tolist()
    m = [[slow_information(a, b) for b in factors] for a in latents]
    np.testing.assert_allclose(mutual_information(z, v, bins), m, rtol=1e-9)
    gaps = []
    for f, b in enumerate(factors):
        first, second = sorted((row[f] for row in m), reverse=True)[:2]
        gaps.append((first - second) / slow_information(b, b))
    assert mig(z, v, bins) == pytest.approx(sum(gaps) / 3)
    deviations = []
    for row in (row for row, tells in zip(m, telling(z, v, bins), strict=True) if tells):
        template = [max(row) if x == max(row) else 0 for x in row]
        deviations.append(sum((x - t) ** 2 for x, t in zip(row, template, strict=True)) / (max(row) ** 2 * 2))
    assert modularity(z, v, bins) == pytest.approx(sum(1 - d for d in deviations) / len(deviations))


def test_a_latent_tells_what_no_reordering_of_the_images_does() -> None:
    """The mean over all orders of the images, by drawing many of them."""
    rng = np.random.default_rng(0)
    v = rng.integers(3, size=(60, 1))
    for mixed, tells in ((0.0, True), (0.7, True), (1.0, False)):
        z = np.where(rng.random(60) < mixed, rng.integers(12, size=60), v[:, 0])[:, None].astype(float)
        chance = np.mean([mutual_information(rng.permutation(z), v, 12) for _ in range(100)])
        share = (mutual_information(z, v, 12).item() - chance) / (slow_information(*[v[:, 0].tolist()] * 2) - chance)
        assert telling(z, v, 12).tolist() == [tells] == [share > 0.05]


def test_disentanglement_and_completeness_are_weighted_entropies() -> None:
    r = np.array([[0.5, 0.1], [0.2, 0.6], [0.3, 0.3], [0.0, 0.0]])
    rows = [0.6, 0.8, 0.6]
    d = [1 + sum(x / s * math.log2(x / s) for x in row) for row, s in zip(r[:3].tolist(), rows, strict=True)]
    c = [1 + sum(x * math.log(x, 4) for x in column if x) for column in r.T.tolist()]
    expected = sum(w * x for w, x in zip(rows, d, strict=True)) / 2, sum(c) / 2
    assert concentration(r) == pytest.approx(expected)
    assert concentration(7 * r) == pytest.approx(expected)


def test_dci_has_the_importances_of_boosted_trees() -> None:
    z, v = table()
    models = [GradientBoostingClassifier(n_estimators=7, random_state=5).fit(z[:50], b) for b in v[:50].T]
    accuracies = [np.mean(model.predict(z[50:]) == b) for model, b in zip(models, v[50:].T, strict=True)]
    expected = concentration(np.stack([model.feature_importances_ for model in models], 1))
    assert dci(z, v, 50, trees=7, seed=5) == pytest.approx((*expected, np.mean(accuracies)))


def test_sap_is_that_of_its_paper() -> None:
    z, v = table()
    z[:, 3] = 1  # collapsed
    scores = [[np.corrcoef(a, b)[0, 1] ** 2 for a in z[:, :3].T] for b in v[:, :2].T]
    accuracies = []
    for a in standard(z[:, :3]).T:
        guess = (
            LinearSVC(C=0.01, class_weight="balanced", dual=False).fit(a[:60, None], v[:60, 2]).predict(a[60:, None])
        )
        right = [np.mean(guess[v[60:, 2] == value] == value) for value in range(4)]
        accuracies.append(np.mean(right))
    accuracies.append(0.25)  # of the constant latent
    best = [sorted(row)[-2:] for row in [*scores, accuracies]]
    assert sap(z, v, 60, [2]) == pytest.approx(np.mean([high - low for low, high in best]))


def test_explicitness_is_the_probability_that_an_image_with_the_value_comes_first() -> None:
    z, v = table()
    areas = []
    for b in v.T:
        p = LogisticRegression(max_iter=1000).fit(standard(z)[:60], b[:60]).predict_proba(standard(z)[60:])
        areas.append([])
        for value, column in enumerate(p.T):
            on, off = column[b[60:] == value], column[b[60:] != value]
            areas[-1].append(np.mean([(x > y) + (x == y) / 2 for x in on for y in off]))
    assert explicitness(z, v, 60) == pytest.approx(np.mean([np.mean(a) for a in areas]), abs=1e-3)


def test_drawn_images_agree_in_the_factor_and_are_drawn_evenly() -> None:
    v = np.random.default_rng(0).permutation(np.array([[0, 5], [0, 6], [3, 6], [3, 6], [3, 7]]))
    factor, image = np.indices((2, 5))[:, :, :, None]
    drawn = Alike(v).draw(np.random.default_rng(1), factor, np.broadcast_to(image, (2, 5, 6000)))
    for f in range(2):
        for i in range(5):
            same = np.flatnonzero(v[:, f] == v[i, f])
            share = np.bincount(drawn[f, i], minlength=5)[same] / 6000
            np.testing.assert_allclose(share, 1 / len(same), atol=0.03)


def test_the_factor_vae_score_is_that_of_its_paper() -> None:
    """Vote by vote, from draws of its own; the standard deviation of each score is below 0.01."""
    z, v = mixed()
    rng = np.random.default_rng(7)

    def vote() -> tuple[int, int]:
        k = int(rng.integers(3))
        value = rng.integers(VALUES[k])
        batch = z[rng.choice(np.flatnonzero(v[:, k] == value), 16)]
        normalised = batch / z.std(0)
        return int(np.argmin(np.mean((normalised - normalised.mean(0)) ** 2, 0))), k

    train, judge = [vote() for _ in range(3000)], [vote() for _ in range(3000)]
    majority = [max(range(3), key=lambda k: train.count((d, k))) for d in range(3)]
    expected = np.mean([majority[d] == k for d, k in judge])
    assert 0.5 < expected < 0.97
    assert factor_vae_score(z, v, 3000, 3000, 16) == pytest.approx(expected, abs=0.04)


def test_the_beta_vae_score_is_that_of_its_paper() -> None:
    z, v = mixed()
    rng = np.random.default_rng(7)
    x, y = np.zeros((3000, 3)), rng.integers(3, size=3000)
    for n, k in enumerate(y):
        for first in rng.integers(len(z), size=4):
            second = rng.choice(np.flatnonzero(v[:, k] == v[first, k]))
            x[n] += np.abs(z[first] - z[second]) / 4
    expected = LogisticRegression(C=1e6).fit(x[:1500], y[:1500]).score(x[1500:], y[1500:])
    assert 0.4 < expected < 0.97
    assert beta_vae_score(z, v, 4000, 4000, 4) == pytest.approx(expected, abs=0.05)


def test_latents_that_hardly_vary_have_no_vote() -> None:
    """The first tells more of its factor than any other latent, but has collapsed."""
    v = grid()
    z = np.hstack([0.2 * standard(v)[:, :1], standard(v)[:, 1:]])
    assert factor_vae_score(z, v, **VOTES, least_variance=0.05) < 0.9
    assert factor_vae_score(z, v, **VOTES, least_variance=0.03) == 1


def test_the_same_seed_gives_the_same_votes_in_any_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    z, v = mixed()
    scores = [factor_vae_score(z, v, 500, 500, 8, seed=s) for s in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]
    monkeypatch.setattr("vae_lightning.metric.votes.AT_ONCE", 999)
    few = [score(z, v, 2000, 2000, 8) for score in (factor_vae_score, beta_vae_score)]
    monkeypatch.undo()
    assert few == pytest.approx([score(z, v, 2000, 2000, 8) for score in (factor_vae_score, beta_vae_score)], abs=0.05)


def test_votes_are_judged_by_votes_that_were_not_learnt_from() -> None:
    v = grid()
    alone = factor_vae_score(standard(v), v, 1, 3000, 16)  # one latent is known, the others stand for the first factor
    assert min(abs(alone - 1 / 3), abs(alone - 2 / 3)) < 0.05
    assert beta_vae_score(noise(len(v), 30), v, 20, 3000, 16) == pytest.approx(1 / 3, abs=0.07)


QUICK: dict[str, Any] = {**VOTES, "trees": 5}


class Known:
    """A trained model whose images are the factors themselves, and whose means are the images."""

    def __init__(self, sizes: dict[str, int], factors: np.ndarray | None = None) -> None:
        v, n = torch.from_numpy(grid() if factors is None else factors), [*sizes.values()]
        parts = v[: sum(n)].split(n)
        known = dict.fromkeys(("test", "val", "train"), v[:0]) | dict(zip(sizes, parts, strict=True))
        self.choices = {"data": "known"}
        self.data = SimpleNamespace(factors=known, factor_names=("x", "shape", "y"))
        self.model = SimpleNamespace(encode=self.encode)

    def encode(self, x: Tensor, c: Tensor) -> Independent:
        return Independent(Normal(x.double().flatten(1), 1.0), 1)

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        known = self.data.factors[split]
        return known[:, None, None, :], known[:, 0]

    def batch(self, x: Tensor, y: Tensor) -> Batch:
        return Batch(x, y, x.new_zeros(len(x), 0))


def test_each_image_is_scored_with_its_own_factors() -> None:
    found = Disentanglement(**QUICK, categorical=["shape"])(Known({"test": 100, "val": 50, "train": 400}))
    expected = dict.fromkeys(found, 1.0) | {"sap": (2 / 3 + 1 + 1) / 3}  # of three shapes, one is guessed
    assert {key: value.value for key, value in found.items()} == pytest.approx(expected, abs=0.02)
    assert found["mig"].note == "100 test, 50 val, 400 train images"
    assert found["dci_disentanglement"].note == "boosting, fitted on 366 images, judged on 184"


@pytest.mark.parametrize(
    ("wanted", "note"),
    [
        ((60, 30), "90 test images"),
        ((100, 50), "100 test, 50 val images"),
        ((100, 60), "100 test, 50 val, 10 train images"),
    ],
)
def test_images_come_from_the_test_set_first(wanted: tuple[int, int], note: str) -> None:
    metric = Disentanglement(*wanted)
    sizes = {"test": 100, "val": 50, "train": 400}
    codes, factors, origin = metric.table(Known(sizes))
    assert origin == note
    assert (codes == factors).all()
    marked = np.arange(600)[:, None]  # which images
    chosen = metric.table(Known(sizes, marked))[1][:, 0]
    assert len(set(chosen)) == sum(wanted)
    assert sum(chosen < 100) == min(100, sum(wanted))
    assert any(a > b for a, b in pairwise(chosen))
    assert sum(wanted) >= 100 or max(chosen) > 90  # of a test set in order, not the first ones


def test_a_factor_with_one_value_is_left_out() -> None:
    v = grid()
    v[:, 1] = 2
    found = Disentanglement(**QUICK)(Known({"test": 300}, v))
    assert found["mig"].note == "300 test images; shape has one value"
    assert found["mig"].value == pytest.approx(1, abs=0.01)
    assert "chance is about 0.50" in found["beta_vae_score"].note


@pytest.mark.parametrize(
    ("factors", "message"),
    [(np.zeros((300, 3), int), "0 factors that vary"), (grid()[:40], "40 images and 3 factors")],
)
def test_too_little_is_refused_in_words(factors: np.ndarray, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        Disentanglement(**QUICK)(Known({"test": len(factors)}, factors))


def test_unknown_factors_are_refused_in_words() -> None:
    model = Known({"test": 300})
    model.data.factors = None
    with pytest.raises(NotApplicable, match="data=known: its factors are not known"):
        Disentanglement(**QUICK)(model)


def test_a_run_on_shapes_is_judged(small: Callable[..., Any]) -> None:
    grid_of = [
        f"data.source.{key}={n}" for key, n in {"size": 8, "scales": 2, "orientations": 1, "xs": 5, "ys": 5}.items()
    ]
    run = small("data=shapes", *grid_of, "data.limit=null", "model.hidden=[16]", "model.latent_dim=3")
    run.trainer.fit(run.lit, run.data)
    folder = Path(run.trainer.default_root_dir)
    node = {"_target_": "vae_lightning.metric.disentanglement.Disentanglement", **QUICK}
    evaluate(str(folder), {"disentanglement": node}, device="cpu")
    values = json.loads((folder / "evaluate.json").read_text())["metrics"]["disentanglement"]["values"]
    assert list(values) == [
        "mig", "dci_disentanglement", "dci_completeness", "dci_informativeness", "sap",
        "factor_vae_score", "beta_vae_score", "modularity", "explicitness",
    ]  # fmt: skip
    assert all(0 <= value["value"] <= 1 for value in values.values())
    assert values["mig"]["note"] == "15 test, 13 val, 122 train images; orientation has one value"
