"""What all figures share: 1200 pixels in width, legible letters, colours for everybody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from vae_lightning.atomic import replaced
from vae_lightning.picture.grid import GAP, tile

WIDTH, HEIGHT, DPI = 1200, 1200, 100  # pixels; the height of sheets of images at most
BLUE, RED, GREEN, PINK, ORANGE, SKY, YELLOW, BLACK = (  # Okabe and Ito (2008), told apart by all eyes
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"
)  # fmt: skip
GREY, BROWN = "#999999", "#661100"
MANY = (BLUE, ORANGE, GREEN, PINK, RED, SKY, BLACK, YELLOW, GREY, BROWN)
STYLE: Any = {
    "font.size": 12, "axes.titlesize": 14, "axes.titlelocation": "left", "axes.titlepad": 12, "axes.labelsize": 12,
    "legend.fontsize": 11, "xtick.labelsize": 11, "ytick.labelsize": 11, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True,
}  # fmt: skip
MARGIN, TITLE, HEADS = 20, 50, 26  # pixels around a sheet, above it, and for the names of its columns
LABEL = 8.5  # pixels a letter

styled = matplotlib.rc_context(STYLE)  # a decorator


def canvas(height: int) -> Figure:
    """An empty figure, 1200 x `height` pixels, whose parts find their places."""
    return Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))


def save(figure: Figure, path: str | Path) -> None:
    """As PNG."""
    with replaced(Path(path), "wb") as file:
        figure.savefig(file, format="png", pil_kwargs={"compress_level": 4})


@dataclass(frozen=True)
class Sheet:
    """Images in rows and columns, with a title and names for both."""

    images: Tensor  # (N, C, H, W) in [0, 1], row by row
    columns: int
    title: str
    rows: Sequence[str] = ()
    heads: Sequence[str] = ()
    gap: int = GAP

    def tile(self) -> Tensor:
        """The images alone, (C, H', W')."""
        return tile(self.images, self.columns, self.gap)

    @styled
    def figure(self) -> Figure:
        """With title and names; a pixel of an image is a square of whole pixels, where there is room."""
        grid = self.tile()
        h, w = grid.shape[-2:]
        left, heads = margin(self.rows), HEADS if self.heads else 0
        factor: float = (WIDTH - left - MARGIN) // w or (WIDTH - left - MARGIN) / w
        width, height = factor * w, factor * h
        left = max(left, int(WIDTH - width) // 2 if not self.rows else left)
        total = height + TITLE + heads + MARGIN
        figure = Figure(figsize=(WIDTH / DPI, total / DPI), dpi=DPI)
        axes = figure.add_axes((left / WIDTH, MARGIN / total, width / WIDTH, height / total))
        axes.imshow(grid.movedim(0, -1).numpy(), interpolation="nearest" if factor >= 1 else "auto")
        axes.set_frame_on(False)
        axes.grid(False)
        axes.set_yticks(*_ticks(self.rows, self.images.shape[-2] + self.gap, self.gap))
        axes.set_xticks(*_ticks(self.heads, self.images.shape[-1] + self.gap, self.gap))
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        figure.text(left / WIDTH, 1 - TITLE / 2 / total, self.title, fontsize=14, va="center")
        return figure


def room(x: Tensor, columns: int, rows: int, names: Sequence[str] = ()) -> tuple[int, int]:
    """How many columns and rows of images like x (..., H, W) there are to be: the columns fill the width.

    >>> import torch
    >>> room(torch.zeros(3, 28, 28), 12, 8), room(torch.zeros(3, 256, 256), 12, 8)
    ((12, 8), (4, 4))

    Args:
        x: its size counts.
        columns: at least so many, where they fit.
        rows: at most so many.
        names: of the rows, which take some of the width.
    """
    h, w = (size + GAP for size in x.shape[-2:])
    width = WIDTH - margin(names) - MARGIN
    factor = max(1, width // (columns * w + GAP))
    return max(1, (width // factor - GAP) // w), max(1, min(rows, HEIGHT // (factor * h)))


def margin(names: Sequence[str]) -> int:
    """Pixels at the left, for the names of the rows."""
    plain = [name.translate(str.maketrans("", "", "${}_\\")) for name in names]
    return MARGIN + math.ceil(LABEL * max(map(len, plain), default=0))


def _ticks(names: Sequence[str], step: int, gap: int) -> tuple[list[float], Sequence[str]]:
    return [gap + i * step + (step - gap) / 2 - 0.5 for i in range(len(names))], names
