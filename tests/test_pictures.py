"""Pictures show what they say, for every option; TensorBoard gets the settings and the latents of a run."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COMPANIONS, DRAW_FREE, SMALL, composed, digits, names, options, parts, ready, same, target, weights
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.projector import ProjectorConfig
from torch.distributions import Laplace, Normal

import vae_lightning
from vae_lightning.callback.pictures import Pictures
from vae_lightning.compose import compose
from vae_lightning.data.pixels import scaled
from vae_lightning.picture import gallery
from vae_lightning.picture.canvas import Sheet, save
from vae_lightning.picture.curve import Measured, active, measure, rates
from vae_lightning.picture.gallery import CHARTS, SHEETS, draw
from vae_lightning.picture.grid import save_gif, save_png, tile
from vae_lightning.picture.latent import latents, pca, perplexity, use
from vae_lightning.picture.path import REACH, SIDE, STEPS, manifold, order, traversals
from vae_lightning.picture.subject import Subject
from vae_lightning.train import Run, train


def subject_of(option: str, *overrides: str) -> Subject:
    """An untrained model of an option, and digits of 16x16."""
    model, _, x, c = ready(option, *overrides)
    return Subject(model.eval(), x, digits(64, 16)[1].argmax(1), c)


def different(*groups: str) -> list[str]:
    """The options that differ in their model: most losses do not."""
    seen: dict[str, str] = {}
    for option in options(*groups):
        config, _ = composed(option, *COMPANIONS.get(option, []))
        made_of = [str(config[group]) for group in ("model", "posterior", "prior", "likelihood", "condition")]
        seen.setdefault("".join(made_of), option)
    return list(seen.values())


def array(path: Path) -> np.ndarray:
    """The pixels of a file."""
    with Image.open(path) as image:
        return np.array(image)


def drawn(subject: Subject) -> set[str]:
    """The names of the pictures that a model gets; each is looked into."""
    found = {name: sheet for name, make in SHEETS.items() if (sheet := make(subject)) is not None}
    for sheet in found.values():
        assert torch.isfinite(sheet.images).all()
        assert 0 <= sheet.images.min() <= sheet.images.max() <= 1
        assert len(sheet.images) % sheet.columns == 0
        assert len(sheet.rows) in (0, len(sheet.images) // sheet.columns)
        assert len(sheet.heads) in (0, sheet.columns)
    return set(found) | {name for name, make in CHARTS.items() if make(subject) is not None}


@pytest.mark.parametrize("option", different("model", "posterior", "prior", "likelihood", "loss"))
def test_every_model_has_the_pictures_that_its_traits_allow(option: str) -> None:
    _, choices = composed(option, *COMPANIONS.get(option, []))
    traits = target("posterior", choices["posterior"]).traits
    wanted = {"reconstructions", "samples", "latents"}
    wanted |= {"spread"} if traits["rate"] else set()
    wanted |= {"traversals"} if traits["space"] != "codes" else {"codes"}
    wanted |= {"interpolations"} if traits["space"] in ("real", "sphere") else set()
    wanted |= {"pseudo_inputs"} if choices["prior"] == "vamp" else set()
    subject = subject_of(option)
    subject.x, subject.y, subject.c = subject.x[:24], subject.y[:24], subject.c[:24]
    assert drawn(subject) == wanted


@pytest.mark.parametrize("option", ["posterior=joint", "posterior=codebook", "prior=conditional"])
def test_all_of_them_become_files(option: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    subject = subject_of(option)
    history = [found] if (found := measure(subject, 1)) else []
    draw(subject, tmp_path, history)
    assert caplog.text == ""
    wanted = {f"{name}.png" for name in drawn(subject)} | ({"rates.png"} if history else set())
    wanted |= {"traversals.gif"} if "traversals.png" in wanted else set()
    assert {path.name for path in tmp_path.iterdir()} == wanted
    assert {array(path).shape[1] for path in tmp_path.glob("*.png")} == {1200}


def test_what_is_no_image_has_charts_only() -> None:
    config, _ = composed("data=vectors", *COMPANIONS["data=vectors"])
    model, _ = parts(config, (1, 1, 10))
    subject = Subject(model, torch.randn(30, 1, 1, 10), torch.zeros(30, dtype=torch.long), torch.zeros(30, 0))
    assert drawn(subject) == {"latents"}


def test_colours_stay() -> None:
    model, _ = parts(composed(*SMALL)[0], (3, 16, 16))
    subject = Subject(model, torch.rand(8, 3, 16, 16), torch.arange(8), torch.zeros(8, 0))
    sheet = SHEETS["reconstructions"](subject)
    assert sheet is not None
    assert torch.equal(sheet.images[0], subject.x[0])


# ---- what is in them ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("option", [f"posterior={name}" for name in names("posterior")] + ["model=ladder"])
@torch.no_grad()
def test_the_rates_of_the_variables_are_the_rate(option: str) -> None:
    subject = subject_of(option)
    each = subject.encoded.rates
    traits = target("posterior", composed(option, *COMPANIONS.get(option, []))[1]["posterior"]).traits
    assert (each is not None) == (traits["factorised"] or traits["space"] in ("one_hot", "joint"))
    if each is not None:
        top = subject.model(subject.x, subject.c).latents[0]
        torch.testing.assert_close(each.sum(1), top.rate(analytic=True))


@torch.no_grad()
def by_hand(subject: Subject) -> torch.Tensor:
    """KL(N(m, s^2) || N(0, 1)) of each number, the mean over images."""
    q = subject.model.encode(subject.x).base_dist
    return ((q.loc**2 + q.scale**2 - 1) / 2 - q.scale.log()).mean(0)


def test_traversals_go_by_kl() -> None:
    subject = subject_of("model=mlp", "model.latent_dim=30")
    nats = by_hand(subject)
    ranked = order(subject)
    assert [i for i, _ in ranked] == sorted(range(30), key=lambda i: -nats[i])
    assert [said for _, said in ranked] == [f"$z_{{{i}}}$, {nats[i]:.2f} nats" for i, _ in ranked]
    sheet = traversals(subject)
    assert sheet is not None
    assert list(sheet.rows) == [said for _, said in ranked[: len(sheet.rows)]]
    assert len(sheet.rows) == 12


@torch.no_grad()
def test_a_traversal_changes_one_number_and_reaches_as_far_as_it_says() -> None:
    subject = subject_of("model=mlp")
    sheet, (row, _) = traversals(subject), order(subject)[1]
    assert sheet is not None
    draws, z = subject.encoded.draw[:, row], subject.encoded.mean[:1].clone()
    for column, reach in ((0, -REACH), (STEPS - 1, REACH), (STEPS // 2, 0.0)):
        z[0, row] = draws.mean() + reach * draws.std()
        torch.testing.assert_close(sheet.images[sheet.columns + column], subject.model.decode(z).mean[0])


@torch.no_grad()
def test_a_traversal_of_a_category_shows_each() -> None:
    subject = subject_of("posterior=gumbel", "posterior.categories=3")
    sheet, (variable, _) = traversals(subject), order(subject)[0]
    assert sheet is not None
    assert sheet.columns == 3
    z = subject.encoded.mean[:1].clone()
    for k in range(3):
        z[0, variable] = torch.eye(3)[k]
        torch.testing.assert_close(sheet.images[k], subject.model.decode(z).mean[0])


@torch.no_grad()
def test_on_a_sphere_ways_stay_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, seen = subject_of("posterior=von_mises_fisher"), []
    monkeypatch.setattr(Subject, "decode", lambda self, z, c: seen.append(z) or torch.zeros(*z.shape[:2], 1, 16, 16))
    assert traversals(subject)
    assert SHEETS["interpolations"](subject)
    for z in seen:
        torch.testing.assert_close(z.norm(dim=-1), torch.ones(z.shape[:-1]))


@pytest.mark.parametrize(("prior", "one"), [("normal", Normal(0.0, 1.0)), ("laplace", Laplace(0.0, math.sqrt(0.5)))])
@torch.no_grad()
def test_the_plane_is_decoded_at_the_quantiles_of_the_prior(prior: str, one: Normal | Laplace) -> None:
    subject = subject_of(f"prior={prior}", "model.latent_dim=2")
    sheet = manifold(subject)
    assert sheet is not None
    assert sheet.columns == SIDE
    low, high = (one.icdf(torch.tensor(at)) for at in (0.5 / SIDE, 1 - 0.5 / SIDE))
    for place, z in ((0, (low, high)), (SIDE - 1, (high, high)), (SIDE * (SIDE - 1), (low, low))):
        torch.testing.assert_close(sheet.images[place], subject.model.decode(torch.stack(z)[None]).mean[0])
    assert "prior" in sheet.title


@torch.no_grad()
def test_without_quantiles_the_plane_is_where_images_are() -> None:
    subject = subject_of("prior=mixture", "model.latent_dim=2")
    sheet = manifold(subject)
    assert sheet is not None
    z = np.quantile(subject.encoded.draw.numpy(), [0.5 / SIDE, 1 - 0.5 / SIDE], 0)
    corner = torch.tensor([[z[0, 0], z[1, 1]]])
    torch.testing.assert_close(sheet.images[0], subject.model.decode(corner).mean[0])
    assert "encoded images" in sheet.title


def test_units_that_say_nothing_are_not_active() -> None:
    """Two of four rows of a linear encoder are 0: their posterior is the prior."""
    config, _ = composed("model=linear", "model.latent_dim=4")
    model, _ = parts(config, (1, 16, 16))
    with torch.no_grad():
        for parameter in model.infer.encoder.parameters():
            parameter.view(8, -1)[[1, 3, 5, 7]] = 0.0  # means and log-variances of z_1 and z_3
    found = measure(Subject(model, digits(64, 16)[0], torch.zeros(64), torch.zeros(64, 0)), step=7)
    assert found is not None
    assert found.step == 7
    assert [value == 0 for value in found.rates] == [False, True, False, True]
    assert active(found.variances) == 2
    figure = rates([found])
    assert figure is not None
    assert "2 of 4 units active" in figure.get_suptitle()


def test_draws_are_the_same_each_time_and_leave_the_model_alone() -> None:
    subject = subject_of("model=ladder")
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    for make in SHEETS.values():
        once, again = make(subject), make(subject)
        assert (once is None) == (again is None)
        assert once is None or again is None or torch.equal(once.images, again.images)
    assert same(before, subject.model.state_dict())


def test_use_of_codes() -> None:
    share = use(torch.tensor([[0, 0], [1, 3]]), 4)
    assert share.tolist() == [0.5, 0.25, 0.0, 0.25]
    assert perplexity(share) == pytest.approx(2 ** (0.5 + 2 * 0.25 * 2))
    subject = subject_of("posterior=codebook")
    figure = CHARTS["codes"](subject)
    assert figure is not None
    index = subject.model.encode(subject.x).index.flatten()
    assert figure.axes[0].get_title("left").startswith(f"{len(set(index.tolist()))} of 8 codes in use on 64 images")


def test_principal_components() -> None:
    z = torch.randn(200, 20) * torch.linspace(3, 1, 20)
    _, sizes, directions = np.linalg.svd((z - z.mean(0)).numpy(), full_matrices=False)
    projected, shares = pca(z)
    assert shares == pytest.approx((sizes**2 / (sizes**2).sum())[:2].tolist(), rel=1e-6)
    expected = torch.as_tensor((z - z.mean(0)).numpy() @ directions[:2].T)
    torch.testing.assert_close(projected.abs(), expected.abs())


def test_above_the_plane_a_title_says_how_it_was_reached() -> None:
    subject = subject_of("posterior=normal")
    _, shares = pca(subject.encoded.mean)
    (title,) = (axes.get_title("left") for axes in latents(subject).axes)
    assert title.endswith(f"2 principal components of 4 dimensions, {sum(shares):.0%} of the variance")
    (axes,) = latents(subject, "tsne").axes
    assert axes.get_title("left").endswith("t-SNE of 4 dimensions")
    shown = torch.cat([torch.as_tensor(c.get_offsets().data) for c in axes.collections])
    mean = torch.cat([subject.encoded.mean[subject.y == label] for label in range(10)])
    near = torch.cdist(mean, mean).fill_diagonal_(torch.inf).argmin(1)
    assert torch.cdist(shown, shown).argsort(1)[:, 1:11].eq(near[:, None]).any(1).double().mean() > 0.8


# ---- files ----------------------------------------------------------------------------------------------------------
def test_a_pixel_is_a_square_of_whole_pixels(tmp_path: Path) -> None:
    sheet = Sheet(torch.rand(15, 1, 28, 28).round(), 5, "title", ["a", "b", "c"], list("12345"))
    save(sheet.figure(), tmp_path / "a.png")
    shown, grid = torch.as_tensor(array(tmp_path / "a.png")).movedim(-1, 0)[:3] / 255, sheet.tile()
    factor = 7
    large = grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    h, w = large.shape[1:]
    rows = range(shown.shape[1] - h - 40, shown.shape[1] - h + 1)
    places = [(i, j) for i in rows for j in range(20, 1200 - w + 1) if torch.equal(shown[:, i, j : j + w], large[:, 0])]
    assert shown.shape[2] == 1200
    assert any(torch.equal(shown[:, i : i + h, j : j + w], large) for i, j in places)


def test_images_are_enlarged_by_whole_factors(tmp_path: Path) -> None:
    grid = tile(torch.rand(6, 1, 8, 8), 3)
    save_png(grid, tmp_path / "a.png")
    image = array(tmp_path / "a.png")
    assert image.shape == (22 * 37, 32 * 37)
    small = torch.as_tensor(image)[::37, ::37]
    assert torch.equal(small, grid[0].mul(255).round().byte())
    save_gif([grid, 1 - grid, grid], tmp_path / "a.gif", 50)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.n_frames, film.size[0] % 32, film.info["duration"], film.info["loop"]) == (3, 0, 50, 0)  # type: ignore[attr-defined]


# ---- a run ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def broken_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run one of whose pictures fails, and what it logged."""

    def fail(subject: Subject) -> Sheet:
        raise RuntimeError("on purpose")

    folder = tmp_path_factory.mktemp("pictures")
    records: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("vae_lightning")
    log.addHandler(handler)
    config, choices = compose([*DRAW_FREE, *SMALL, "accelerator=cpu", "trainer.max_epochs=2", "loss.beta=4"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gallery.SHEETS, "interpolations", fail)  # type: ignore[arg-type]
        train(config, choices, folder)
    log.removeHandler(handler)
    return folder, "\n".join(records)


def test_a_picture_that_fails_is_named_and_costs_nothing(broken_run: tuple[Path, str]) -> None:
    folder, said = broken_run
    assert said == "the picture 'interpolations' was not made: RuntimeError: on purpose"
    assert (folder / "results.json").is_file()
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "reconstructions.png", "samples.png", "spread.png", "traversals.png", "traversals.gif", "latents.png",
        "rates.png", "curves.png",
    }  # fmt: skip


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


def test_tensorboard_shows_pictures_at_each_validation(broken_run: tuple[Path, str]) -> None:
    shown = events(broken_run[0])
    assert set(shown.Tags()["images"]) == {"reconstructions", "samples", "spread", "traversals"}
    assert [image.step for image in shown.Images("spread")] == [3, 6]


def test_tensorboard_has_the_settings_beside_the_results(broken_run: tuple[Path, str]) -> None:
    folder, _ = broken_run
    shown = events(folder)
    start = shown.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    settings = metadata.parse_session_start_info_plugin_data(start).hparams
    assert settings["loss.beta"].number_value == 4
    assert (settings["model"].string_value, settings["prior"].string_value) == ("mlp", "normal")
    assert (settings["model.hidden"].string_value, settings["debug"].string_value) == ("[16]", "false")
    assert not [name for name in settings if name.endswith("_target_")]
    assert metadata.SESSION_END_INFO_TAG in shown.summary_metadata
    results = json.loads((folder / "results.json").read_text())["test"]
    assert {name: shown.Scalars(f"test/{name}")[-1].value for name in results} == pytest.approx(results)


def test_the_projector_has_latents_labels_and_images(broken_run: tuple[Path, str]) -> None:
    folder, _ = broken_run
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (latents,) = config.embeddings
    model = vae_lightning.load(folder).double()
    x, y = test_images()
    z = np.loadtxt(folder / latents.tensor_path)
    torch.testing.assert_close(torch.as_tensor(z), model.encode(x).mean.detach(), rtol=1e-4, atol=1e-4)
    assert [int(line) for line in (folder / latents.metadata_path).read_text().split()] == y.tolist()
    w, h = latents.sprite.single_image_dim
    sprite = array(folder / latents.sprite.image_path)
    assert (w, h) == (28, 28)
    assert sprite.shape == (280, 280)  # the square above 96
    assert np.array_equal(sprite[28:56, 84:112] / 255, x[13, 0])


def test_images() -> tuple[torch.Tensor, torch.Tensor]:
    from test_data import images

    x, y = images(*DRAW_FREE[:3]).test
    return scaled(x), y


test_images.__test__ = False  # type: ignore[attr-defined]


def history(run: Run) -> list[Measured]:
    (pictures,) = (callback for callback in run.trainer.callbacks if isinstance(callback, Pictures))  # type: ignore[attr-defined]
    return pictures.history


def test_rates_over_time_survive_a_stop(small: Callable[..., Run], tmp_path: Path) -> None:
    straight = small("trainer.max_epochs=3", "logger=none", *SMALL, folder="straight")
    straight.trainer.fit(straight.lit, straight.data)
    assert [each.step for each in history(straight)] == [3, 6, 9]
    first = small("trainer.max_epochs=2", "logger=none", *SMALL, folder="stopped")
    first.trainer.fit(first.lit, first.data)
    ckpt = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    second = small("trainer.max_epochs=3", "logger=none", *SMALL, f"ckpt={ckpt}", folder="stopped")
    second.trainer.fit(second.lit, second.data, ckpt_path=second.resumed, weights_only=True)
    assert history(second) == history(straight)
    early = next(iter((tmp_path / "stopped" / "checkpoints").glob("last.ckpt")))
    first.trainer.test(second.lit, second.data, ckpt_path=early, weights_only=True, verbose=False)
    assert len(history(first)) == 2


def test_pictures_change_no_bit_of_the_training(small: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    looked = small(*SMALL, "posterior=codebook", "prior=codes", "loss=vq", "posterior.grid=[2,2]", folder="a")
    looked.trainer.fit(looked.lit, looked.data)
    monkeypatch.setattr(Pictures, "on_validation_epoch_end", lambda *_: None)
    blind = small(*SMALL, "posterior=codebook", "prior=codes", "loss=vq", "posterior.grid=[2,2]", folder="b")
    blind.trainer.fit(blind.lit, blind.data)
    assert same(weights(looked), weights(blind))
