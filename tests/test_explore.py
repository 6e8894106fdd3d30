"""The explorer without its page: where a click leads, what a drawing becomes, what each touch does."""

from __future__ import annotations

import base64
import io
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import COMPANIONS, digits
from PIL import Image
from torch import Tensor
from torch.distributions import kl_divergence

from vae_lightning.build import build_model, make
from vae_lightning.compose import compose
from vae_lightning.data.shapes import Shapes
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.explore import explore as command
from vae_lightning.explore import sheet
from vae_lightning.explore.chart import Frame, chart
from vae_lightning.explore.drawing import Habit
from vae_lightning.explore.moves import STEPS, Moves
from vae_lightning.explore.plane import Plane
from vae_lightning.explore.space import Space
from vae_lightning.trained import Trained
from vae_lightning.walk import linear, spherical

SMALL = ["data=digits", "data.limit=40", "data.source.size=12", "data.binarize=threshold"]


class Untrained(Trained):
    """As a run that was trained for no time at all."""

    def __init__(self, *overrides: str) -> None:
        config, choices = compose([*SMALL, *overrides])
        self.config, self.choices, self.device = config, choices, torch.device("cpu")
        self.folder = Path("a_run")
        data = make(config.data, seed=0, minibatches_per_step=1, accumulate_grad_batches=1)
        self.__dict__["data"] = data
        torch.manual_seed(1)
        n_context = data.n_classes if config.condition == "label" else 0
        self.model = build_model(config, shape=data.shape, n_context=n_context, n_train=data.n_train).eval()
        with torch.no_grad():
            for p in self.model.parameters():  # means that lie apart, and pictures that differ
                p.mul_(3)


MLP = ["model.hidden=[16]", "model.latent_dim=5"]


def space(*overrides: str, sliders: int = 16, model: list[str] = MLP) -> Space:
    return Space(Untrained(*model, *overrides), images=30, sliders=sliders)


# ---- the plane --------------------------------------------------------------------------------------------------
def test_the_plane_is_the_one_next_to_the_points() -> None:
    axes = torch.linalg.qr(torch.randn(6, 6))[0]
    z = torch.randn(4000, 6) * torch.tensor([5.0, 3.0, 1.0, 0.5, 0.5, 0.5]) @ axes.T + 7
    plane = Plane.through(z)
    inside = axes[:, :2] @ axes[:, :2].T
    assert torch.allclose(plane.axes @ plane.axes.T, inside, atol=0.05)
    assert plane.share == pytest.approx(34 / 35.75, abs=0.01)
    assert plane.down(z).var(0).tolist() == pytest.approx([25, 9], rel=0.1)
    u = torch.randn(50, 2)
    assert torch.allclose(plane.down(plane.up(u)), u)
    rest = z - plane.up(plane.down(z))
    assert (rest @ plane.axes).abs().max() < 1e-10  # dropped at right angles: no point of the plane is nearer


def test_one_latent_or_two_are_the_plane_themselves() -> None:
    z = torch.randn(9, 2) + 3
    plane = Plane.through(z)
    assert torch.equal(plane.down(z), z)
    assert torch.equal(plane.up(z), z)
    line = Plane.through(z[:, :1])
    assert torch.equal(line.down(z[:, :1]), torch.stack([z[:, 0], torch.zeros(9)], 1))
    assert torch.equal(line.up(z), z[:, :1])


def test_every_pixel_leads_to_a_point_and_back() -> None:
    frame = Frame(left=7.25, top=3.5, width=41.5, height=29.0, low=(-2.0, 1.0), high=(5.0, 4.0))
    pixels = [(column, row) for column in range(60) for row in range(40)]
    assert [frame.pixel(frame.point(*pixel)) for pixel in pixels] == pixels
    assert frame.point(0, 0)[1] > frame.point(0, 1)[1]  # rows go down, the axis goes up
    assert frame.holds(frame.point(8, 4))
    assert not frame.holds(frame.point(6, 4))
    assert not frame.holds(frame.point(8, 2))


def test_the_frame_is_where_the_picture_shows_a_point() -> None:
    where = space()
    where.means, where.labels, where.classes = torch.zeros_like(where.means), torch.zeros(30).long(), [0]
    where.means[:15] = where.plane.up(torch.tensor([[2.0, -1.0]]))
    where.means[15:] = where.plane.up(torch.tensor([[-3.0, 2.5]]))
    drawn = chart(where)
    pixels = torch.from_numpy(np.array(drawn.picture)).double()
    colour = (pixels.amax(2) - pixels.amin(2)) * (pixels[..., 2] > pixels[..., 0] + 60)  # the points alone are blue
    rows, columns = colour.nonzero().T
    for point in ((2.0, -1.0), (-3.0, 2.5)):
        column, row = drawn.frame.pixel(point)
        near = ((columns - column).abs() < 20) & ((rows - row).abs() < 20)
        assert near.sum() > 5
        assert columns[near].double().mean().item() == pytest.approx(column, abs=0.7)
        assert rows[near].double().mean().item() == pytest.approx(row, abs=0.7)


def test_a_click_goes_to_that_very_point() -> None:
    moves = Moves(space())
    z = moves.space.means[3].tolist()
    column, row = 300, 500
    u = moves.chart(-1).frame.point(column, row)
    found, picture, plane, *sliders = moves.click(z, -1, (column, row))
    there = torch.tensor(found)
    assert torch.allclose(there, moves.space.plane.up(torch.tensor(u)))
    assert moves.space.plane.down(there).tolist() == pytest.approx(u)
    assert sliders == there[moves.space.order].tolist()
    assert plane.getpixel((column, row)) == (0, 0, 0)  # in the middle of the ring
    assert moves.chart(-1).picture.getpixel((column, row)) != (0, 0, 0)
    expected = moves.space.decode(there.unsqueeze(0))[0, 0]
    shown = torch.from_numpy(np.array(picture)).double()[::28, ::28] / 255
    assert torch.allclose(shown, expected, atol=0.51 / 255)
    assert moves.click(z, -1, (2, 2))[0] == z  # beside the axes nothing happens


# ---- the latents ------------------------------------------------------------------------------------------------
def test_sliders_go_to_the_latents_with_most_nats() -> None:
    here = space(sliders=3)
    x, _, c = here.trained.first("test", 30)
    with torch.no_grad():
        q, p = here.model.encode(x, c), here.model.prior(c)
    rates = kl_divergence(q.base_dist, p.base_dist.expand((30, 5))).mean(0)  # type: ignore[attr-defined]
    assert torch.allclose(here.worth, rates)
    assert here.order == rates.argsort(descending=True)[:3].tolist()
    low, high = here.range(here.order[0])
    drawn = here.subject.encoded.draw[:, here.order[0]]
    assert (low + high) / 2 == pytest.approx(drawn.mean().item())
    assert high - low == pytest.approx(6 * drawn.std(correction=0).item())


def test_where_latents_have_no_rate_each_the_variance_of_the_means_orders_them() -> None:
    here = space(*COMPANIONS["prior=vamp"], "prior=vamp")
    assert here.order == here.means.var(0).argsort(descending=True).tolist()


def test_a_slider_moves_one_latent_and_no_other() -> None:
    moves = Moves(space(sliders=2))
    z = moves.space.means[0].tolist()
    for dim in moves.space.order:
        found, picture, _ = moves.slide(dim, 1.25, z, -1)
        assert [a == b for a, b in zip(found, z, strict=True)] == [i != dim for i in range(5)]
        assert found[dim] == 1.25
        assert picture != moves.here(torch.tensor(z), -1)[1]


def test_samples_are_draws_of_the_prior_and_reset_is_the_middle() -> None:
    moves = Moves(space("prior=mixture"))
    first, second = moves.draw(-1)[0], moves.draw(-1)[0]
    assert first != second
    assert Moves(moves.space).draw(-1)[0] == first  # the same seed
    drawn = torch.stack([moves.space.draw(i) for i in range(200)])
    off = drawn.mean(0) - moves.space.model.prior(torch.zeros(1, 0)).mean
    assert (off.abs() < 4 * drawn.std(0) / 200**0.5).all()
    assert (moves.space.middle - drawn.mean(0)).abs().max() > 0.5  # the images lie elsewhere
    assert moves.reset(-1)[0] == moves.space.middle.tolist()


def test_the_same_point_gives_the_same_picture_whatever_the_layers_below_draw() -> None:
    here = space(model=["model=ladder", "model.latent_dims=[3,4]", "model.width=16"])
    z = here.means[:1]
    first = here.decode(z)
    torch.rand(7)
    assert torch.equal(here.decode(z), first)
    assert not torch.equal(here.decode(z + 1), first)


def test_a_conditional_model_takes_the_label_too() -> None:
    moves = Moves(space("condition=label"))
    z = moves.space.means[0].tolist()
    assert moves.relabel(z, 3)[0] == z
    assert moves.relabel(z, 3)[1] != moves.relabel(z, 4)[1]
    assert moves.chart(3).picture != moves.chart(4).picture
    assert moves.chart(3) is moves.chart(3)
    own = int(moves.space.labels[0])
    assert moves.choose(0, 3) == moves.choose(0, 4)
    label, _, _, found, *_ = moves.choose(0, 3)
    assert label == own
    assert torch.allclose(torch.tensor(found), moves.space.means[0])  # as it is encoded with its own label


def test_directions_stay_on_the_sphere() -> None:
    here = space(*COMPANIONS["posterior=von_mises_fisher"], "posterior=von_mises_fisher")
    z = here.means[:4]
    assert torch.allclose(here.decode(3 * z), here.decode(z))
    assert torch.allclose(here.encode(here.x[:4])[0].norm(dim=1), torch.ones(4))


# ---- images that come in ----------------------------------------------------------------------------------------
def test_an_image_is_shown_as_it_is_seen_reconstructed_and_found() -> None:
    moves = Moves(space())
    _, seen, again, z, picture, _, *sliders = moves.choose(2, -1)
    x = moves.space.x[2:3]
    assert torch.equal(torch.from_numpy(np.array(seen))[::28, ::28] == 255, x[0, 0] == 1)
    assert torch.allclose(torch.tensor(z), moves.space.means[2])
    assert sliders == torch.tensor(z)[moves.space.order].tolist()
    assert again == picture  # of the same point: the mean is the mode
    assert moves.choose(None, -1) == moves.choose(0, -1)
    assert moves.choose(10_000, -1) == moves.choose(29, -1)


@pytest.mark.parametrize(("walk", "way"), [("linear", linear), ("spherical", spherical)])
def test_a_strip_leads_from_here_to_a_test_image(walk: str, way: Any) -> None:
    moves = Moves(space())
    here, there = moves.space.means[1], moves.space.means[4]
    picture = moves.strip(here.tolist(), 4, walk, -1)
    factor = picture.width // (STEPS * 13 + 8 + 12)
    shown = torch.from_numpy(np.array(picture)).double()[::factor, ::factor] / 255
    expected = moves.space.decode(way(here, there, STEPS))
    for i in range(STEPS):
        assert torch.allclose(shown[:, 13 * i : 13 * i + 12], expected[i, 0], atol=0.51 / 255)
    assert torch.equal(shown[:, -12:], moves.space.x[4, 0])
    assert torch.equal(shown[:, -20:-12], torch.ones(12, 8))


def test_the_next_image_with_a_label_is_found_round_the_corner() -> None:
    moves = Moves(space())
    moves.space.labels = torch.tensor([7, 3, 7, 5, 5, 1])
    assert [moves.following(7, i) for i in range(6)] == [2, 2, 0, 0, 0, 0]
    assert [moves.following(5, i) for i in range(6)] == [3, 3, 3, 4, 3, 3]
    assert [moves.following(1, i) for i in range(6)] == [5] * 6
    assert [moves.following(-1, i) for i in (0, 5)] == [1, 0]
    assert moves.following(7, None) == 2


def figures(n: int = 40) -> Tensor:
    """Bright rectangles on black, uint8 (n, 1, 28, 28), 20 pixels high, with their centre of mass in the middle."""
    x = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    for i in range(n):
        half = 2 + i % 4
        x[i, :, 4:24, 14 - half : 14 + half] = 255
    return x


def bar(size: int, top: int, left: int, height: int, width: int) -> Tensor:
    """Black ink on white paper, (3, size, size)."""
    x = torch.ones(3, size, size)
    x[:, top : top + height, left : left + width] = 0
    return x


def test_the_habit_of_data_is_measured() -> None:
    habit = Habit.of(figures(), "none")
    assert (habit.dark, habit.extent, habit.centre) == (True, 20, (13.5, 13.5))
    assert str(habit) == "28 x 28 pixels, grey, bright on black, figures of one size, in their place"
    anywhere = Habit.of(Shapes(size=32).read(None).train[0], "threshold")
    assert (anywhere.dark, anywhere.extent, anywhere.centre) == (True, None, None)
    noise = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    assert Habit.of(noise, "none") == Habit((3, 8, 8), False, None, None, "none")


@pytest.mark.parametrize("paper", [1.0, 0.8])
def test_a_drawing_gets_the_size_and_the_place_of_the_data(paper: float) -> None:
    habit = Habit.of(figures(), "none")
    drawing = bar(280, 10, 30, 100, 30)
    seen = habit.prepare(drawing * paper)
    expected = torch.zeros(1, 1, 28, 28)
    expected[..., 4:24, 11:17] = 1
    assert torch.allclose(seen, expected)
    assert torch.allclose(habit.prepare(1 - drawing), expected)  # white on black
    assert torch.allclose(habit.prepare(bar(500, 300, 400, 200, 60)), expected)  # elsewhere, larger
    assert habit.prepare(torch.ones(3, 280, 280)).sum() == 0  # an empty sheet


def test_a_test_image_that_is_uploaded_comes_back() -> None:
    x, _ = digits(40, 28)
    habit = Habit.of((x * 255).to(torch.uint8), "threshold")
    for image in x:
        large = 1 - F.interpolate(image.unsqueeze(0), scale_factor=10)[0]
        seen = habit.prepare(F.pad(large, (40, 200, 90, 10), value=1.0))
        moved = [seen[0].roll((down, right), (1, 2)) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)]
        assert min((each != image).double().mean().item() for each in moved) < 0.02


def test_figures_of_many_sizes_keep_size_and_place() -> None:
    habit = Habit.of(Shapes(size=32).read(None).train[0], "threshold")
    seen = habit.prepare(bar(320, 50, 100, 40, 80))
    expected = torch.zeros(1, 1, 32, 32)
    expected[..., 5:9, 10:18] = 1
    assert torch.equal(seen, expected)


def test_colours_stay_and_pixels_become_black_and_white_as_test_images_do() -> None:
    photo = torch.rand(3, 10, 20)
    seen = Habit((3, 10, 10), False, None, None, "none").prepare(photo)
    assert torch.allclose(seen[0], photo[:, :, 5:15], atol=0.51 / 255)
    grey = Habit((1, 64, 64), False, None, None, "dynamic").prepare(torch.full((3, 64, 64), 0.25))
    assert set(grey.unique().tolist()) == {0.0, 1.0}
    assert grey.mean().item() == pytest.approx(0.25, abs=0.03)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_what_the_sheet_sends_is_read_and_anything_else_refused(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (9, 7, 3), dtype=torch.uint8)
    url = "data:image/png;base64," + base64.b64encode(png(Image.fromarray(pixels.numpy()))).decode()
    assert torch.equal(sheet.drawn(url) * 255, pixels.movedim(-1, 0).double())
    clear = tmp_path / "clear.png"
    clear.write_bytes(png(Image.new("RGBA", (4, 4), (0, 0, 0, 0))))
    assert torch.equal(sheet.picture(str(clear)), torch.ones(3, 4, 4))
    for wrong in ("", "data:,", "data:image/png;base64,AAAA", "data:image/png;base64,*"):
        with pytest.raises(UserError, match="no image"):
            sheet.drawn(wrong)
    clear.write_bytes(png(Image.new("L", (64, 64), 3))[:60])
    with pytest.raises(UserError, match="no image"):
        Moves(space()).upload(str(clear), -1)


# ---- the command ------------------------------------------------------------------------------------------------
CODES = ["posterior=codebook", "prior=codes", "loss=vq", "posterior.codes=4", "posterior.grid=[2,2]"]


def test_only_numbers_and_images_are_explored() -> None:
    with pytest.raises(UserError, match="posterior=codebook are none; explore a run with posterior=normal"):
        command.explorable(Untrained(*CODES))
    run = Untrained()
    assert command.explorable(run) is run
    run.data.train = (run.data.train[0].double(), run.data.train[1])
    with pytest.raises(UserError, match="data=digits has none"):
        command.explorable(run)


def jobs(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name / "checkpoints").mkdir(parents=True)
    return folder


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one at a time, and these are 2; say run=.*0, for one"):
        command.explore(str(jobs(tmp_path, "0", "1")))


def test_without_gradio_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.os, "environ", dict(command.os.environ))
    monkeypatch.delitem(sys.modules, "vae_lightning.explore.page", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r'pip install "vae-lightning\[app\]"'):
        command.explore(str(jobs(tmp_path, "run") / "run"), port=None)


def test_a_port_that_cannot_be_had_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    run = str(jobs(tmp_path, "run") / "run")  # there is nothing in it
    with socket.socket() as other:
        other.bind((command.HOST, 0))
        other.listen()
        for port in (other.getsockname()[1], 70_000):
            with pytest.raises(UserError, match=f"port={port}: .*say port=null for a free one"):
                command.explore(run, port=port)
        taken = other.getsockname()[1]
    command.check_free(taken)
