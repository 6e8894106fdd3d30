"""What happens when a part of the page is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from vae_lightning.explore import sheet
from vae_lightning.explore.chart import Chart, chart
from vae_lightning.explore.space import Space
from vae_lightning.picture.grid import pillow
from vae_lightning.walk import linear, spherical

LARGE, STRIP = 336, 1120  # pixels of pictures, at most, in width
STEPS = 9  # pictures of an interpolation
WALKS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {"linear": linear, "spherical": spherical}
Shown = tuple[Any, ...]


class Moves:
    """One method for each part of the page; a class because all of them share the space and its charts.

    A point is a list of D numbers that the page keeps; latents without a slider stay where they were put last. The
    label is what a conditional model takes beside it, and of no matter to the others.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.charts: dict[int, Chart] = {}  # by label: what the decoder makes of a place depends on it
        self.draws = 0

    def here(self, z: Tensor, label: int) -> Shown:
        """A point (D,) as the page keeps it, its picture, and the plane with a ring around it."""
        across, up = self.space.plane.down(z.double()).tolist()
        x = self.space.decode(z.unsqueeze(0), label)[0]
        return z.tolist(), pillow(x, LARGE), self.chart(label).marked((across, up))

    def jump(self, z: Tensor, label: int) -> Shown:
        """As `here`, and where all sliders are to stand."""
        return *self.here(z, label), *z[self.space.order].tolist()

    def chart(self, label: int) -> Chart:
        """The plane, drawn once for each label."""
        if label not in self.charts:
            self.charts[label] = chart(self.space, label)
        return self.charts[label]

    def slide(self, dim: int, value: float, z: list[float], label: int) -> Shown:
        """One latent was moved."""
        point = self._point(z)
        point[dim] = value
        return self.here(point, label)

    def relabel(self, z: list[float], label: int) -> Shown:
        """Another label was chosen."""
        return self.here(self._point(z), label)

    def click(self, z: list[float], label: int, pixel: tuple[int, int]) -> Shown:
        """A pixel (column, row) of the plane was clicked; beside the axes nothing happens."""
        frame = self.chart(label).frame
        u = frame.point(*pixel)
        there = self.space.plane.up(torch.tensor(u, dtype=torch.float64)) if frame.holds(u) else torch.tensor(z)
        return self.jump(there.to(self.space.means), label)

    def draw(self, label: int) -> Shown:
        """The next sample of the prior."""
        self.draws += 1
        return self.jump(self.space.draw(self.draws, label), label)

    def reset(self, label: int) -> Shown:
        """The middle of the aggregate posterior."""
        return self.jump(self.space.middle, label)

    def sketch(self, url: str, label: int) -> Shown:
        """A stroke was drawn.

        Raises:
            UserError: it is no image.
        """
        return self.encoded(self.space.habit.prepare(sheet.drawn(url)), label)

    def upload(self, path: str, label: int) -> Shown:
        """A file was chosen.

        Raises:
            UserError: it is no image.
        """
        return self.encoded(self.space.habit.prepare(sheet.picture(path)), label)

    def choose(self, index: int | None, label: int) -> Shown:
        """A test image was chosen; a conditional model takes its own label with it."""
        x, own = self._test_image(index)
        label = own if self.space.model.n_context and own >= 0 else label
        return label, *self.encoded(x, label)

    def encoded(self, x: Tensor, label: int) -> Shown:
        """An image (1, C, H, W) as the model sees it, its reconstruction, and its latents."""
        z, again = self.space.encode(x, label)
        return pillow(x[0], LARGE), pillow(again[0], LARGE), *self.jump(z[0], label)

    def strip(self, z: list[float], index: int | None, walk: str, label: int) -> Image:
        """From here to a test image, which itself stands behind a gap."""
        x, own = self._test_image(index)
        end, _ = self.space.encode(x, own)
        pictures = self.space.decode(WALKS[walk](self._point(z), end[0], STEPS), label)
        narrow, wide = (x.new_ones(*x.shape[1:3], gap) for gap in (1, 8))
        parts = [part for picture in pictures for part in (picture, narrow)]
        return pillow(torch.cat([*parts, wide, x[0]], -1), STRIP)

    def following(self, wanted: int, index: int | None) -> int:
        """The next test image with this label, after the last comes the first; -1 means any label."""
        after = (index or 0) + 1
        labels = self.space.labels.roll(-after)
        fits = (labels == wanted) | (wanted == -1)
        return (int(fits.int().argmax()) + after) % len(labels)

    def _test_image(self, index: int | None) -> tuple[Tensor, int]:
        """A test image (1, C, H, W) and its label: the last one, if there are fewer; the first, if none is named."""
        i = min(max(int(index or 0), 0), len(self.space.x) - 1)
        return self.space.x[i : i + 1], int(self.space.labels[i])

    def _point(self, z: list[float]) -> Tensor:
        return torch.tensor(z).to(self.space.means)
