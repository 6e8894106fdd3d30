"""The plane as a picture: test images by label over what the decoder makes of each place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image, ImageDraw
from torch import Tensor

from vae_lightning.explore.space import Space
from vae_lightning.picture.canvas import MANY

SIDE = 880  # pixels of the picture
EDGES = (0.085, 0.075, 0.9, 0.88)  # of the axes in it: left, bottom, width, height
TILES = 15  # decoded images a side
FAINT = 0.3  # how much of them is seen
NAMED = 20  # labels that are written out, at most
OUTLIERS = 0.002  # part of the points, on each side, that may lie outside


@dataclass(frozen=True)
class Frame:
    """Where the axes lie in a picture, and what they show: pixels to coordinates of the plane, and back.

    >>> frame = Frame(left=10, top=0, width=100, height=50, low=(-1.0, -1.0), high=(1.0, 1.0))
    >>> frame.pixel((0.0, 0.5)), frame.pixel(frame.point(7, 8))
    ((60, 12), (7, 8))
    """

    left: float
    top: float
    width: float
    height: float
    low: tuple[float, float]
    high: tuple[float, float]

    def point(self, column: int, row: int) -> tuple[float, float]:
        """The coordinates of the middle of a pixel."""
        across = (column + 0.5 - self.left) / self.width
        up = 1 - (row + 0.5 - self.top) / self.height
        (x0, y0), (x1, y1) = self.low, self.high
        return x0 + across * (x1 - x0), y0 + up * (y1 - y0)

    def pixel(self, point: tuple[float, float]) -> tuple[int, int]:
        """Column and row of the pixel that a point lies in."""
        across, up = ((p - a) / (b - a) for p, a, b in zip(point, self.low, self.high, strict=True))
        return int(np.floor(self.left + across * self.width)), int(np.floor(self.top + (1 - up) * self.height))

    def holds(self, point: tuple[float, float]) -> bool:
        """Whether the point lies within the axes."""
        return all(a <= p <= b for p, a, b in zip(point, self.low, self.high, strict=True))


@dataclass(frozen=True)
class Chart:
    """A picture of the plane, and where its axes lie in it."""

    picture: Image.Image
    frame: Frame

    def marked(self, point: tuple[float, float]) -> Image.Image:
        """The picture with a ring around a point; at the edge, if the point lies outside."""
        frame, picture = self.frame, self.picture.copy()
        inside = (min(max(p, a), b) for p, a, b in zip(point, frame.low, frame.high, strict=True))
        column, row = frame.pixel(next(zip(inside, inside, strict=True)))
        brush = ImageDraw.Draw(picture)
        for radius, width, color in ((17, 9, "white"), (15, 5, "black")):
            brush.ellipse((column - radius, row - radius, column + radius, row + radius), outline=color, width=width)
        brush.ellipse((column - 2, row - 2, column + 2, row + 2), fill="black")
        return picture


def chart(space: Space, label: int = -1) -> Chart:
    """The plane through the test images of `space`, for a conditional model with this label in the background."""
    u = space.plane.down(space.means.double())
    frame = _frame(u)
    figure = Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100, facecolor="white")
    axes = figure.add_axes(EDGES)
    axes.set(xlim=(frame.low[0], frame.high[0]), ylim=(frame.low[1], frame.high[1]))
    axes.imshow(
        _manifold(space, frame, label),
        extent=(frame.low[0], frame.high[0], frame.low[1], frame.high[1]),
        aspect="auto",
        interpolation="nearest",
    )
    _points(axes, u, space)
    names, what = ("$z_0$", "$z_1$"), ""
    if space.means.shape[1] > 2:
        names = ("principal component 1", "principal component 2")
        what = f"; {space.plane.share:.0%} of their variance"
    axes.set_title(f"{len(u)} test images by label, at the mean of q(z | x){what}", fontsize=15)
    axes.set_xlabel(names[0], fontsize=14)
    axes.set_ylabel(names[1], fontsize=14, labelpad=2)
    axes.tick_params(labelsize=12)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Chart(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()), frame)


def _frame(u: Tensor) -> Frame:
    """Axes that hold nearly all points (N, 2), with some air, and equal units on both."""
    ends = torch.tensor([OUTLIERS, 1 - OUTLIERS], dtype=u.dtype)
    low, high = u.quantile(ends, dim=0)
    reach = torch.tensor([EDGES[2], EDGES[3]], dtype=u.dtype)  # as wide as high in units, up to the shape of the axes
    half = max(((high - low) / reach).max().item() * 0.53, 1e-3) * reach
    middle = (low + high) / 2
    left, bottom, width, height = (SIDE * edge for edge in EDGES)
    low, high = middle - half, middle + half
    return Frame(
        left,
        SIDE - bottom - height,
        width,
        height,
        (low[0].item(), low[1].item()),
        (high[0].item(), high[1].item()),
    )


def _manifold(space: Space, frame: Frame, label: int) -> np.ndarray:
    """What the decoder makes of the middle of each tile, faint, as one image (H, W, 3)."""
    middles = (torch.arange(TILES, dtype=torch.float64) + 0.5) / TILES
    across = frame.low[0] + middles * (frame.high[0] - frame.low[0])
    down = frame.high[1] - middles * (frame.high[1] - frame.low[1])
    u = torch.stack([across.repeat(TILES), down.repeat_interleave(TILES)], 1)
    x = space.decode(space.plane.up(u), label)
    rows = x.unflatten(0, (TILES, TILES)).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2)
    ink = 1 - rows if space.habit.dark else rows  # dark figures on white, so that the points stand out
    return (1 - FAINT * (1 - ink)).expand(3, -1, -1).movedim(0, -1).numpy()


def _points(axes: Axes, u: Tensor, space: Space) -> None:
    """Each image as a point in the colour of its label; the label itself in the midst of them."""
    for i, label in enumerate(space.classes or [-1]):
        mine = u[space.labels == label]
        axes.scatter(mine[:, 0], mine[:, 1], s=11, color=MANY[i % len(MANY)], alpha=0.75, linewidths=0)
        if 1 < len(space.classes) <= NAMED:
            across, up = mine.median(0).values.tolist()
            outline = [withStroke(linewidth=5, foreground="white")]
            axes.text(
                across, up, str(label), fontsize=20, weight="bold", path_effects=outline, ha="center", va="center"
            )
