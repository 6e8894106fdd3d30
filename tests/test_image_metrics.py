"""Images against images: distances of clouds that are known exactly, and features that are kept."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CONF
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from scipy.linalg import sqrtm
from torch import Tensor

from vae_lightning.data.digits import Digits
from vae_lightning.data.images import Images
from vae_lightning.data.vectors import Vectors
from vae_lightning.errors import UserError
from vae_lightning.evaluate.evaluate import evaluate
from vae_lightning.metric import classifier as own
from vae_lightning.metric import features as choice
from vae_lightning.metric import inception
from vae_lightning.metric.manifold import distances, overlap
from vae_lightning.metric.reconstruction import Reconstruction, ssim
from vae_lightning.metric.samples import Samples, frechet, kernel
from vae_lightning.metric.value import NotApplicable
from vae_lightning.train import Run
from vae_lightning.trained import Trained

CPU = torch.device("cpu")


class Fake:
    """Samples and reconstructions that are known."""

    n_context = 0

    def __init__(
        self,
        reconstruct: Callable[[Tensor], Tensor] = lambda x: x,
        sample: Callable[[int], Tensor] = lambda n: torch.rand(n, 1, 8, 8),
    ) -> None:
        self._reconstruct, self._sample = reconstruct, sample

    def reconstruct(self, x: Tensor, c: Tensor) -> Tensor:
        return self._reconstruct(x)

    def sample(self, n: int, c: Tensor) -> Tensor:
        assert len(c) == n
        return self._sample(n)


def fake(model: Fake, source: Any = None, **how: Any) -> Trained:
    """A model that needed no training, with digits of 8x8."""
    run = object.__new__(Trained)
    run.device, run.choices = CPU, {"data": "digits"}
    run.model = model  # type: ignore[assignment]
    settings: dict[str, Any] = {"binarize": "none", "val_size": 200, **how}
    run.__dict__["data"] = Images(
        source or Digits(size=8), seed=0, minibatches_per_step=1, accumulate_grad_batches=1, **settings
    )
    return run


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "STEPS", 60)
    monkeypatch.setattr(own, "RATE", 0.02)


# ---- reconstructions --------------------------------------------------------------------------------------------
def test_the_same_image_has_no_error_and_all_similarity() -> None:
    values = Reconstruction(images=100)(fake(Fake()))
    assert values["mse"].value == 0
    assert values["ssim"].value == pytest.approx(1)
    assert "7x7" in values["ssim"].note
    assert "psnr" not in values  # it would be infinite


def test_the_squared_error_is_the_one_of_each_pixel() -> None:
    run = fake(Fake(lambda x: x * 0.9))
    x = run.data.test[0].double() / 255
    values = Reconstruction(images=None)(run)
    each = np.array([((0.1 * image) ** 2).sum() / 64 for image in x.numpy()])
    assert values["mse"].value == pytest.approx(each.mean(), rel=1e-12)
    assert values["mse"].standard_error == pytest.approx(each.std(ddof=1) / math.sqrt(len(each)))
    assert values["psnr"].value == pytest.approx(10 * math.log10(1 / each.mean()))


@pytest.mark.parametrize(("size", "radius"), [(8, 3), (6, 2), (28, 5)])
def test_similarity_of_even_images_has_a_closed_form(size: int, radius: int) -> None:
    a, b = torch.full((2, 3, size, size), 0.3), torch.full((2, 3, size, size), 0.7)
    assert ssim(a, b, radius).tolist() == pytest.approx([(2 * 0.21 + 1e-4) / (0.09 + 0.49 + 1e-4)] * 2)


def test_similarity_does_not_depend_on_the_brightest_pixel() -> None:
    x = 0.2 * torch.rand(4, 1, 8, 8)  # a range taken from the images would be 0.2
    y = 0.2 * torch.rand(4, 1, 8, 8)
    bright = torch.ones(1, 1, 8, 8)
    assert torch.equal(ssim(torch.cat([x, bright]), torch.cat([y, bright]), 3)[:4], ssim(x, y, 3))


def test_numbers_that_are_no_pixels_have_the_squared_error_alone() -> None:
    values = Reconstruction()(fake(Fake(lambda x: x + 3), Vectors(n_train=300, n_test=50)))
    assert {key: value.value for key, value in values.items()} == {"mse": pytest.approx(9)}
    assert values["mse"].unit == "squared error per number"


# ---- distances of clouds ----------------------------------------------------------------------------------------
def exactly(mean: Tensor, covariance: Tensor, n: int = 200) -> Tensor:
    """Points (n, F) with exactly these moments."""
    z = torch.randn(n, len(mean))
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / (n - 1))).T
    return mean + z @ torch.linalg.cholesky(covariance).T


def covariance(size: int) -> Tensor:
    a = torch.randn(size, size)
    return a @ a.T + 0.1 * torch.eye(size)


def closed_form(m: Tensor, c: Tensor, n: Tensor, d: Tensor) -> float:
    root = np.real(sqrtm(c.numpy() @ d.numpy()))
    return float((m - n).square().sum() + c.trace() + d.trace() - 2 * np.trace(root))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_frechet_distance_of_normal_clouds_is_the_closed_form(size: int) -> None:
    m, n, c, d = torch.randn(size), torch.randn(size), covariance(size), covariance(size)
    found = frechet(exactly(m, c), exactly(n, d, 150))
    assert found == pytest.approx(closed_form(m, c, n, d), rel=1e-7)


def test_the_frechet_distance_of_commuting_covariances() -> None:
    m, s, t = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 0.5])
    found = frechet(exactly(torch.zeros(3), s.square().diag()), exactly(m, t.square().diag()))
    assert found == pytest.approx((m.square() + (s - t).square()).sum().item())


@pytest.mark.parametrize("n", [200, 10])  # 10 points in 20 dimensions: singular covariances
def test_the_frechet_distance_of_a_cloud_to_itself_is_zero(n: int) -> None:
    cloud = torch.randn(n, 20)
    assert abs(frechet(cloud, cloud)) < 1e-5
    assert frechet(cloud, cloud + 2) == pytest.approx(80, rel=1e-5)


def u_statistic(x: Tensor, y: Tensor) -> float:
    """Gretton et al. (2012), eq. 3, term by term."""

    def k(a: Tensor, b: Tensor) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    same = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    other = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return same + other - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_kid_is_the_unbiased_statistic() -> None:
    x, y = torch.randn(40, 4), torch.randn(40, 4) + 0.5
    found = kernel(x, y)
    assert found.standard_error is not None
    assert found.value == pytest.approx(u_statistic(x, y), abs=4 * found.standard_error / math.sqrt(100))


def test_kid_is_zero_in_the_mean_and_its_error_the_spread() -> None:
    def replicates(shift: float) -> tuple[Tensor, Tensor]:
        found = [kernel(torch.randn(100, 5), torch.randn(100, 5) + shift) for _ in range(40)]
        return torch.tensor([v.value for v in found]), torch.tensor([v.standard_error for v in found])

    values, errors = replicates(0)
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(40)
    assert (values < 0).any()  # a biased statistic is positive
    assert values.std() < errors.mean()
    values, errors = replicates(1)
    assert 0.7 < errors.mean() / values.std() < 1.4


def test_overlap_by_the_definitions() -> None:
    real, generated = torch.randn(15, 2), 3 * torch.randn(20, 2) + 2

    def radius(points: Tensor, i: int, k: int) -> float:
        return sorted(math.dist(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]

    def inside(point: Tensor, points: Tensor, k: int) -> list[bool]:
        return [math.dist(point, other) <= radius(points, i, k) for i, other in enumerate(points)]

    found = overlap(real, generated)
    assert found.precision == pytest.approx(np.mean([any(inside(p, real, 3)) for p in generated]))
    assert found.recall == pytest.approx(np.mean([any(inside(p, generated, 3)) for p in real]))
    dense = np.array([inside(p, real, 5) for p in generated])  # (20, 15)
    assert found.density == pytest.approx(dense.sum() / (5 * 20))
    assert found.coverage == pytest.approx(dense.any(0).mean())
    assert len(set(found)) == 4  # none of them stands for another


def test_overlap_of_a_cloud_with_itself_and_with_one_far_away() -> None:
    cloud = torch.randn(600, 3)  # more than a portion
    cloud[100:] = cloud[:100].repeat(5, 1)  # each six times: all radii are 0
    assert not distances(cloud + 100, cloud + 100).diagonal().any()
    same = overlap(cloud, cloud)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert tuple(overlap(cloud, cloud + 100)) == (0, 0, 0, 0)
    assert overlap(torch.randn(600, 3), torch.randn(600, 3)).density == pytest.approx(1, abs=0.1)


def test_a_dropped_mode_lowers_recall_and_coverage_and_not_precision() -> None:
    real = torch.randn(300, 2) + 20 * (torch.arange(300) % 3).unsqueeze(1)
    one = torch.randn(300, 2)
    found = overlap(real, one)
    assert found.precision > 0.9
    assert found.recall == pytest.approx(1 / 3, abs=0.05)
    assert found.coverage < 0.35
    spoilt = overlap(one, real)  # samples that include what is not in the data
    assert spoilt.precision == pytest.approx(1 / 3, abs=0.05)
    assert spoilt.recall > 0.9


# ---- the classifier ---------------------------------------------------------------------------------------------
def refuse(*_: Any) -> Any:
    raise AssertionError("trained again")


@pytest.mark.usefixtures("_quick")
def test_a_classifier_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = fake(Fake()).data
    (x, y), before = data.train, torch.get_rng_state()
    first = own.classifier(x, y, "a/b c", tmp_path, CPU)
    assert own.accuracy(first, *data.test) > 0.8
    spread = first.features(x.float() / 255)
    assert spread.mean(0).abs().max() < 0.5
    assert (spread.std(0) - 1).abs().max() < 0.5
    assert torch.equal(torch.get_rng_state(), before)  # samples are the same, whether it was trained or not
    (path,) = tmp_path.glob("classifier/a_b_c-*.safetensors")

    monkeypatch.setattr(own, "train", refuse)
    again = own.classifier(x, y, "a/b c", tmp_path, CPU)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    for others in ((x, (y + 1) % 10), (255 - x, y), (x[1:], y[1:])):  # of other images it is another
        with pytest.raises(AssertionError, match="trained again"):
            own.classifier(*others, "a/b c", tmp_path, CPU)
    assert load_file(path).keys() == first.state_dict().keys()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(b""),
        lambda path: save_file(load_file(path), path),  # whole, but nobody says so
    ],
)
def test_a_damaged_classifier_is_noticed_and_trained_again(
    damage: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(own, "STEPS", 4)
    x, y = fake(Fake()).data.train
    first = own.classifier(x, y, "digits", tmp_path, CPU)
    (path,) = tmp_path.glob("classifier/*.safetensors")
    whole = path.read_bytes()
    damage(path)
    again = own.classifier(x, y, "digits", tmp_path, CPU)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert path.read_bytes() == whole
    assert "damaged; the classifier is trained again" in caplog.text


@pytest.mark.usefixtures("_quick")
def test_where_nothing_can_be_written_it_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "classifier").write_text("in the way")
    own.classifier(*fake(Fake()).data.train, "digits", tmp_path, CPU)
    assert "cannot be written" in caplog.text


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 5), (2, 33, 17)])
def test_a_classifier_takes_any_image(shape: tuple[int, ...]) -> None:
    network = own.Classifier(shape, 3).eval()
    assert network.features(torch.rand(2, *shape)).shape == (2, own.WIDTH)


def test_orientations_are_told_apart() -> None:
    x = torch.arange(4).view(1, 1, 2, 2)
    turned, which = own.rotations(torch.cat([x, -x]))
    assert which.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert turned[::2, 0].tolist() == [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[3, 2], [1, 0]], [[2, 0], [3, 1]]]


# ---- which features ---------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("how", [{"labelled": 50}, {"source": "one class"}])
def test_without_labels_orientations_are_learned(how: dict[str, Any], tmp_path: Path) -> None:
    run = fake(Fake(), **({"labelled": 50} if "labelled" in how else {}))
    if "source" in how:
        run.data.train = (run.data.train[0], torch.zeros_like(run.data.train[1]))
    found = choice.features(run, "classifier", 500, tmp_path)
    assert "orientations, as they have no labels" in found.note
    assert found.network(torch.rand(3, 1, 8, 8)).shape == (3, own.WIDTH)


def test_oblong_images_without_labels_train_nothing(tmp_path: Path) -> None:
    run = fake(Fake(), Vectors(n_train=300, n_test=50))
    run.data.train = (run.data.train[0], torch.zeros(100, dtype=torch.int64))
    with pytest.raises(NotApplicable, match=r"metric\.samples\.features=inception"):
        choice.features(run, "classifier", 500, tmp_path)


@pytest.mark.usefixtures("_quick")
def test_the_table_says_whose_features_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> Any:
        raise UserError("not here")

    run = fake(Fake())
    monkeypatch.setattr(choice, "inception", absent)
    assert "% accuracy), not of Inception" in choice.features(run, "auto", 500, tmp_path).note
    with pytest.raises(UserError, match="not here"):
        choice.features(run, "inception", 500, tmp_path)
    monkeypatch.setattr(choice, "inception", lambda shape, device: lambda x: x.flatten(1))
    assert choice.features(run, "auto", 500, tmp_path).note == "features of Inception"
    assert "not of Inception" in choice.features(run, "classifier", 500, tmp_path).note


def test_inceptions_weights_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    there = tmp_path / f"weights-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    with pytest.raises(UserError, match=r"cannot be had .*Put the file into .*hub/checkpoints; or say metric\."):
        inception._weights(there.as_uri())
    there.write_bytes(b"<html>")
    with pytest.raises(UserError, match="what came is not weights-"):
        inception._weights(there.as_uri())
    assert not list((tmp_path / "hub").rglob("*.pth"))
    there.write_bytes(b"weights")
    kept = inception._weights(there.as_uri())
    assert kept.read_bytes() == b"weights"
    there.unlink()
    assert inception._weights(there.as_uri()) == kept
    kept.write_bytes(b"weight5")
    with pytest.raises(UserError, match="Delete the file, and it is downloaded again"):
        inception._weights(there.as_uri())


def test_inception_takes_grey_and_colour_images_only() -> None:
    with pytest.raises(UserError, match="not 2 channels"):
        inception.inception((2, 8, 8), CPU)


# ---- samples ----------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("_quick")
def test_a_perfect_sampler_reaches_the_floor_and_one_that_repeats_itself_does_not(tmp_path: Path) -> None:
    run = fake(Fake())
    metric = Samples(n_samples=250, features="classifier", cache=str(tmp_path))
    others = run.data.train[0][200:] / 255  # the floor is of validation images
    run.model._sample = lambda n: others[torch.randperm(len(others))[:n]]  # type: ignore[operator, assignment]
    perfect = {key: v.value for key, v in metric(run).items()}
    run.model._sample = lambda n: others[:1].expand(n, 1, 8, 8)  # type: ignore[operator, assignment]
    one = metric(run)
    assert perfect["fid"] == pytest.approx(perfect["fid_floor"], rel=0.5)
    assert one["fid_floor"].value == perfect["fid_floor"]
    assert one["fid"].value > 10 * perfect["fid"]
    assert abs(perfect["kid"]) < 0.1 * one["kid"].value
    assert min(perfect["precision"], perfect["recall"], perfect["coverage"]) > 0.7
    assert perfect["density"] == pytest.approx(1, abs=0.35)  # other people wrote the test images
    assert (one["precision"].value, one["recall"].value) == (1, 0)
    assert "250 samples (means of p(x|z))" in one["kid"].note


@pytest.mark.usefixtures("_quick")
def test_of_binary_data_the_samples_are_binary_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake(Fake(sample=lambda n: torch.full((n, 1, 8, 8), 0.5)), binarize="threshold")
    seen = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1)

    monkeypatch.setattr(choice, "inception", lambda shape, device: network)
    values = Samples(n_samples=200, features="inception", cache=str(tmp_path))(run)
    assert all(((x == 0) | (x == 1)).all() for x in seen)
    assert "pixels are 0 or 1" in values["kid"].note


def test_numbers_and_few_images_are_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="no pixels"):
        Samples()(fake(Fake(), Vectors(n_train=300, n_test=50)))
    with pytest.raises(NotApplicable, match="it takes 20"):
        Samples()(fake(Fake(), limit=10))


# ---- the whole --------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("_quick")
def test_a_run_is_judged(small: Callable[..., Run], tmp_path: Path) -> None:
    run = small("data.source.size=8", "model.hidden=[16]", "model.latent_dim=4", "condition=label", "logger=none")
    run.trainer.fit(run.lit, run.data)
    names = ("representation", "reconstruction", "samples")
    nodes = OmegaConf.merge({"images": 200}, *(OmegaConf.load(CONF / "metric" / f"{name}.yaml") for name in names))
    metric = OmegaConf.to_container(nodes, resolve=True)
    del metric["images"]
    metric["samples"] |= {"cache": str(tmp_path), "features": "classifier"}
    evaluate(str(tmp_path / "run"), metric, device="cpu")
    first = json.loads((tmp_path / "run" / "evaluate.json").read_text())["metrics"]
    assert not any("skipped" in first[name] for name in names)
    assert "by an encoder that sees the label" in first["representation"]["values"]["knn_accuracy"]["note"]
    assert first["samples"]["values"]["fid"]["value"] > first["samples"]["values"]["fid_floor"]["value"]
    evaluate(str(tmp_path / "run"), metric, device="cpu")
    second = json.loads((tmp_path / "run" / "evaluate.json").read_text())["metrics"]
    assert {name: first[name]["values"] for name in names} == {name: second[name]["values"] for name in names}
