"""What the generate command makes is what the model makes, and it is found again in the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import names
from PIL import Image
from test_samplers import models, write_run  # noqa: F401
from torch import Tensor

from vae_lightning.check import nodes, plain, problems, read
from vae_lightning.command_line import check
from vae_lightning.compose import compose
from vae_lightning.data.own import own_images
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.generate.generate import generate
from vae_lightning.trained import Trained
from vae_lightning.variable import rates
from vae_lightning.walk import linear, spherical, traversal

Generate = Callable[..., dict[str, Any]]
Runs = Callable[[str], Trained]


@pytest.fixture
def made(run: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generate:
    """What the .npz of `made("normal", "what=traverse", …)` holds."""
    monkeypatch.setattr("vae_lightning.generate.generate.Trained", lambda folder, root, device: run(folder.name))

    def made_by(name: str, *overrides: str) -> dict[str, Any]:
        folder = run(name).folder
        config, _ = compose([f"run={folder}", f"out={tmp_path}", "device=cpu", *overrides], name="generate")
        settings = plain(config)
        settings.pop("_target_")
        (path,) = [path for path in generate(**settings) if path.suffix == ".npz"]
        with np.load(path) as file:
            found = {key: torch.from_numpy(value) for key, value in file.items() if value.ndim}
            return {**found, "settings": json.loads(str(file["settings"])), "path": path}

    return made_by


def float32(x: Tensor) -> Tensor:
    """As it comes out of an .npz."""
    return x.detach().float()


# Ways


@pytest.mark.parametrize("way", [linear, spherical])
@pytest.mark.parametrize("shape", [(3,), (2, 4)])
def test_ways_start_and_end_where_they_should(way: Any, shape: tuple[int, ...]) -> None:
    a, b = torch.randn(2, *shape)
    path = way(a, b, 7)
    assert path.shape == (7, *shape)
    assert torch.equal(path[0], a)
    assert torch.equal(path[-1], b)


def test_a_line_has_equal_steps_and_its_middle_is_the_mean() -> None:
    a, b = torch.randn(2, 5)
    path = linear(a, b, 5)
    torch.testing.assert_close(path[2], (a + b) / 2)
    torch.testing.assert_close(path.diff(dim=0), ((b - a) / 4).expand(4, 5))


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 1.0, 3.0, torch.pi - 1e-5, torch.pi])
def test_an_arc_has_equal_angles_and_keeps_the_norm(angle: float) -> None:
    turn, at = torch.linalg.qr(torch.randn(4, 4))[0], torch.tensor([0.0, angle])
    a, b = 2 * torch.stack([at.cos(), at.sin()], 1) @ turn[:2]
    path = spherical(a, b, 6)
    torch.testing.assert_close(path.norm(dim=1), torch.full((6,), 2.0))
    chords = path.diff(dim=0).norm(dim=1) / 4  # half the angle has this sine
    torch.testing.assert_close(chords.asin() * 2, torch.full((5,), angle / 5), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(spherical(a, 3 * b, 6).norm(dim=1), torch.linspace(2, 6, 6))


def test_an_arc_between_parallel_vectors_is_the_line() -> None:
    a = torch.randn(4)
    torch.testing.assert_close(spherical(a, 3 * a, 5), linear(a, 3 * a, 5))
    assert torch.equal(spherical(a, a, 3), a.expand(3, 4))
    torch.testing.assert_close(spherical(a, 0 * a, 5), linear(a, 0 * a, 5))


def test_a_traversal_changes_one_number() -> None:
    z, values = torch.randn(2, 3), torch.randn(4)
    path = traversal(z, 4, values)
    assert torch.equal(path.flatten(1)[:, 4], values)
    assert torch.equal((path != z).flatten(1).any(0), torch.arange(6) == 4)


# What


def test_samples_are_decoded_draws_of_the_prior(run: Runs, made: Generate) -> None:
    found, trained = made("normal", "n=5", "seed=3"), run("normal")
    assert found["path"].name == "samples_prior.npz"
    assert found["settings"]["n"] == 5
    torch.manual_seed(3)
    torch.testing.assert_close(found["images"], float32(trained.model.sample(5)))
    torch.testing.assert_close(found["images"], float32(trained.model.decode(found["z"].double()).mean))
    with Image.open(found["path"].with_suffix(".png")) as image:
        assert image.size == (37 * 32, 37 * 22)  # three columns and two rows of 8 pixels with gaps of 2, enlarged
        shown = torch.from_numpy(np.array(image))[18::37, 18::37][12:20, 2:10]
    torch.testing.assert_close(shown.float() / 255, found["images"][3, 0], rtol=0, atol=0.51 / 255)


@pytest.mark.parametrize("sampler", ["prior", "mixture", "flow", "two_stage"])
def test_the_same_seed_makes_the_same_bytes(sampler: str, made: Generate) -> None:
    quick = {"mixture": ["sampler.components=2"], "prior": []}
    how = [f"sampler={sampler}", *quick.get(sampler, ["sampler.training.epochs=1"])]
    first = made("normal", "n=4", *how, "seed=1")
    written = first["path"].read_bytes()
    assert made("normal", "n=4", *how, "seed=1")["path"].read_bytes() == written
    other = made("normal", "n=4", *how, "seed=2")  # its bytes differ anyway: the seed is among the settings
    assert not torch.isclose(first["z"], other["z"]).any()


def test_drawn_pixels_are_black_or_white_and_as_often_as_their_mean_says(made: Generate) -> None:
    mean, drawn = (made("normal", "n=2000", f"draw={draw}")["images"] for draw in ("false", "true"))
    assert torch.equal(drawn.unique(), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(drawn.mean(0), mean.mean(0), rtol=0, atol=0.06)


def test_reconstructions_are_those_of_the_model(run: Runs, made: Generate) -> None:
    found, trained = made("normal", "what=reconstruct", "images=[7,0,3]"), run("normal")
    x, y, c = trained.batch(*(part[[7, 0, 3]] for part in trained.images("test")))
    torch.testing.assert_close(found["originals"], float32(x))
    torch.testing.assert_close(found["images"], float32(trained.model.reconstruct(x, c)))
    torch.testing.assert_close(found["z"], float32(trained.model.encode(x, c).mode))
    assert (found["test_images"].tolist(), found["labels"].tolist()) == ([7, 0, 3], y.tolist())
    assert len(made("normal", "what=reconstruct", "n=6")["images"]) == 6
    assert len(made("normal", "what=reconstruct", "n=1000")["images"]) == len(trained.data.test[0])


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_interpolations_end_at_the_reconstructions(path: str, run: Runs, made: Generate) -> None:
    found = made("normal", "what=interpolate", "images=[4,2,9]", "steps=6", f"path={path}")
    trained = run("normal")
    x, _, c = trained.batch(*(part[[4, 2, 9]] for part in trained.images("test")))
    ways = found["images"].unflatten(0, (2, 6))
    ends = float32(trained.model.reconstruct(x, c))
    torch.testing.assert_close(ways[:, 0], ends[:2])
    torch.testing.assert_close(ways[:, -1], ends[1:])
    z = trained.model.encode(x, c).mode
    torch.testing.assert_close(found["z"][:6], float32({"linear": linear, "spherical": spherical}[path](z[0], z[1], 6)))
    with Image.open(found["path"].with_suffix(".gif")) as film:
        shown = [film.seek(i) or film.info["duration"] for i in range(film.n_frames)]  # what looks alike is one frame
    assert sum(shown) == 120 * (11 + 9)  # there, and back without the ends


def test_only_z_moves_in_a_film_of_several_layers(made: Generate) -> None:
    images = made("ladder", "what=interpolate", "images=[1,1]", "steps=4")["images"]
    torch.testing.assert_close(images, images[:1].expand(4, -1, -1, -1))
    assert not torch.equal(*made("ladder", "n=2")["images"])


def test_a_traversal_leaves_all_latents_but_one(run: Runs, made: Generate) -> None:
    found, trained = made("normal", "what=traverse", "images=[2]", "steps=5", "span=2"), run("normal")
    x, _, c = trained.first("test")
    q = trained.model.encode(x, c)
    kl = rates(q, trained.model.prior(c))
    assert kl is not None
    order = kl.mean(0).argsort(descending=True)
    assert found["dims"].tolist() == order.tolist()
    for d, row in zip(order.tolist(), found["z"].unflatten(0, (3, 5)), strict=True):
        assert torch.equal((row != float32(q.mode[2])).any(0), torch.arange(3) == d)
        spread = (q.variance.mean(0) + q.mean.var(0))[d].sqrt().item()
        assert row[2, d].item() == pytest.approx(q.mean.mean(0)[d].item(), abs=0.3 * spread)
        assert (row[4, d] - row[0, d]).item() == pytest.approx(4 * spread, rel=0.3)
    torch.testing.assert_close(found["images"], float32(trained.model.decode(found["z"].double()).mean))
    assert made("normal", "what=traverse", "dims=2")["dims"].tolist() == order[:2].tolist()
    assert made("normal", "what=traverse", "dims=[1]")["dims"].tolist() == [1]


def test_a_traversal_of_categories_shows_each(made: Generate) -> None:
    z = made("one_hot", "what=traverse", "dims=[1]", "steps=10")["z"]
    assert torch.equal(z[:, 1], torch.eye(10))
    assert torch.equal(z[:, 0], z[:1, 0].expand(10, -1))


def test_arithmetic_is_a_minus_b_plus_c(run: Runs, made: Generate) -> None:
    found, trained = made("normal", "what=arithmetic", "images=[3,1,2]"), run("normal")
    x, _, c = trained.first("test", 4)
    z = trained.model.encode(x, c).mode
    torch.testing.assert_close(found["z"], float32(z[3] - z[1] + z[2])[None])
    found = made("normal", "what=arithmetic", "images=[3]", "minus=4", "plus=1")
    latents = trained.latents("train")
    shift = latents.mean[latents.y == 1].mean(0) - latents.mean[latents.y == 4].mean(0)
    torch.testing.assert_close(found["z"], float32(z[3] + shift)[None])


# Labels


def test_a_conditional_model_obeys_the_label(run: Runs, made: Generate) -> None:
    vae, labels = run("conditional").model, torch.eye(10)
    for overrides, c in ((["label=3", "n=4"], labels[[3] * 4]), (["n=12"], labels[[*range(10), 0, 1]])):
        found = made("conditional", *overrides)
        assert found["labels"].tolist() == c.argmax(1).tolist()
        torch.testing.assert_close(found["images"], float32(vae.decode(found["z"].double(), c).mean))


def test_the_label_of_a_reconstruction(run: Runs, made: Generate) -> None:
    trained, which = run("conditional"), ["what=reconstruct", "images=[0,1,2]"]
    x, _, c = trained.first("test", 3)
    torch.testing.assert_close(made("conditional", *which)["images"], float32(trained.model.reconstruct(x, c)))
    other = trained.model.decode(trained.model.encode(x, c).mode, torch.eye(10)[[7] * 3]).mean
    torch.testing.assert_close(made("conditional", *which, "label=7")["images"], float32(other))


# Files of one's own


def test_own_files_are_taken_as_the_data_are(tmp_path: Path, run: Runs, made: Generate) -> None:
    x, _ = run("normal").images("test", 1)
    Image.fromarray(x[0, 0].numpy()).save(tmp_path / "a.png")
    Image.fromarray(255 - x[0, 0].numpy()).resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / "b=1.png")
    found = made("normal", "what=reconstruct", "images=[0]", f"files=['{tmp_path}/a.png']")
    assert torch.equal(found["originals"][1], found["originals"][0])
    torch.testing.assert_close(found["images"][1], found["images"][0])
    assert found["test_images"].tolist() == [0, -1]
    found = made("normal", "what=reconstruct", f"files=['{tmp_path}/b=1.png']", "invert=true")
    torch.testing.assert_close(found["originals"], float32(x / 255))


def test_own_files_are_binarised_as_the_data_are(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (100, 100, 100)).save(tmp_path / "grey.jpg")
    files = [str(tmp_path / "grey.jpg")]
    assert own_images(files, (3, 8, 8), "none").float().mean() == pytest.approx(100, abs=2)
    assert own_images(files, (1, 8, 8), "threshold").max() == 0
    drawn = own_images(files, (1, 64, 64), "dynamic")
    assert drawn.unique().tolist() == [0, 255]
    assert drawn.float().mean() == pytest.approx(100, abs=8)
    assert torch.equal(drawn, own_images(files, (1, 64, 64), "static"))


# Files that are written, and errors


def test_several_runs_each_have_a_folder(run: Runs) -> None:
    both = [str(run("normal").folder), str(run("energy").folder)]
    prior = {"_target_": "vae_lightning.sampler.prior.Prior"}
    what = {"_target_": "vae_lightning.generate.samples.Samples"}
    written = generate(both, what, prior, n=3, device="cpu")
    there = [Path(folder) / "generated" / f"samples_prior.{kind}" for folder in both for kind in ("png", "npz")]
    assert written == there
    assert all(path.stat().st_size for path in there)
    with pytest.raises(ConfigError, match="out=x: 2 runs would overwrite"):
        generate(both, what, prior, out="x")


def test_vectors_are_no_pictures(tmp_path: Path) -> None:
    root = write_run(tmp_path, "vectors")
    prior = {"_target_": "vae_lightning.sampler.prior.Prior"}
    what = {"_target_": "vae_lightning.generate.reconstruct.Reconstruct"}
    assert [path.name for path in generate(str(root), what, prior, n=3)] == ["reconstruct.npz"]
    with pytest.raises(ConfigError, match="files: the data of this run are no images, but vectors"):
        generate(str(root), what, prior, files=["a.png"])


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("normal", "what=reconstruct images=[0,60]", r"images=\[60\]: there are 60 test images, 0 to 59"),
        ("normal", "what=reconstruct files=[no.png]", "files: no.png: there is no such file"),
        ("normal", "label=3", "label=3: this model does not know labels; leave it out, or train with condition=label"),
        ("conditional", "label=10", "label=10: the labels are 0 to 9"),
        ("conditional", "what=reconstruct files=[no.png]", "files: this model knows labels; say which these are"),
        ("energy", "draw=true", "draw=true: likelihood=mse is an energy, from which nothing can be drawn"),
        ("normal", "what=interpolate images=[0]", "say at least two images"),
        ("codes", "what=interpolate", "between two latents of posterior=codebook there are no others"),
        ("sphere", "what=interpolate", "path=linear: it leaves the latents of posterior=von_mises_fisher; .*spherical"),
        ("one_hot", "what=interpolate path=spherical", "posterior=gumbel; say path=linear"),
        ("codes", "what=traverse", "posterior=codebook has codes"),
        ("normal", "what=traverse images=[0,1]", "say one image"),
        ("normal", "what=traverse dims=[0,3]", r"dims=\[3\]: there are 3 latents, 0 to 2"),
        ("one_hot", "what=arithmetic", "sums of latents of posterior=gumbel are no latents"),
        ("normal", "what=arithmetic images=[0,1]", "say three images for a - b"),
        ("normal", "what=arithmetic plus=1", "say both labels"),
        (
            "normal",
            "what=arithmetic minus=10 plus=1",
            "minus=10: no training image has this label; the labels are 0, 1",
        ),
        ("normal", "sampler=codes", "sampler=codes is for posterior=codebook"),
    ],
)
def test_mistakes_are_told_in_words(name: str, overrides: str, words: str, made: Generate) -> None:
    with pytest.raises(UserError, match=words):
        made(name, *overrides.split())


def test_an_image_file_that_is_none(tmp_path: Path, made: Generate) -> None:
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(UserError, match=r"a\.png: is no PNG"):
        made("normal", "what=reconstruct", f"files=[{tmp_path}/a.png]")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run=x sampler=gmm", "sampler=gmm: no such option; sampler is one of codes, flow, mixture, prior, two_stage"),
        ("run=x what=sample", "what=sample: no such option; did you mean samples?; what is one of "),
        ("run=x sampler=mixture sampler.components=0", "sampler.components: must be a whole number >= 1, not 0"),
        ("run=x images=[-1]", "images: must be a list of at least one item, each a whole number >= 0, or null"),
        ("run=x path=arc", "path: must be one of linear, spherical, not 'arc'"),
        ("n=3", "run: say run=…"),
    ],
)
def test_bad_commands(line: str, words: str) -> None:
    assert [found[: len(words)] for found in check(line.split(), name="generate")] == [words]


@pytest.mark.parametrize("option", [f"{group}={name}" for group in ("what", "sampler") for name in names(group)])
def test_every_option_writes_down_every_knob(option: str) -> None:
    config, choices = compose(["run=x", option], name="generate")
    assert problems(config, choices) == {}
    for path, node in nodes(config):
        target = read(node["_target_"])
        assert set(target.parameters) - target.facts <= set(node), path
