"""A drawing or a photograph, made alike to the images that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_lightning import noise
from vae_lightning.data.pixels import binary, once, scaled
from vae_lightning.schema import Binarize

LOOKED_AT = 2000  # training images
SAME_SIZE, SAME_PLACE = 0.03, 0.06  # standard deviations, as parts of the image's side, that count as none
INK = 0.5  # of the brightest: what belongs to a figure


@dataclass(frozen=True)
class Habit:
    """What the images of a data set have in common, measured rather than known by the name of the data set.

    MNIST, for one: bright figures on black, the longer side of each 20 pixels, the centre of mass in the middle.
    """

    shape: tuple[int, int, int]  # (C, H, W)
    dark: bool  # bright figures on a black ground
    extent: float | None  # pixels of the longer side of a figure; None: figures of many sizes
    centre: tuple[float, float] | None  # row and column of the centre of mass; None: figures anywhere
    binarize: Binarize

    @classmethod
    def of(cls, images: Tensor, binarize: Binarize) -> Habit:
        """The habit of images (N, C, H, W) as they are kept."""
        x = scaled(images[:LOOKED_AT])
        shape, side = (x.shape[1], x.shape[2], x.shape[3]), max(x.shape[2:])
        grey = x.mean(1)
        dark = _edge(grey).median().item() == 0
        grey = grey[grey.amax((1, 2)) > 0]
        if not dark or len(grey) == 0:
            return cls(shape, dark, None, None, binarize)
        extents, centres = _extents(grey), _centres(grey)
        same_size = extents.std() < SAME_SIZE * side
        same_place = bool((centres.std(0) < SAME_PLACE * side).all())
        row, column = centres.mean(0).tolist()
        return cls(
            shape, dark, extents.mean().item() if same_size else None, (row, column) if same_place else None, binarize
        )

    def __str__(self) -> str:
        said = {
            f"{self.shape[1]} x {self.shape[2]} pixels": True,
            "grey": self.shape[0] == 1 and self.binarize == "none",
            "black and white": self.binarize != "none",
            "bright on black": self.dark,
            "figures of one size": self.extent is not None,
            "in their place": self.centre is not None,
        }
        return ", ".join(words for words, fits in said.items() if fits)

    def prepare(self, picture: Tensor) -> Tensor:
        """A picture (C', H', W') in [0, 1], grey or of three colours -> what the model sees, (1, C, H, W).

        Where the ground of the data is black, the ground of the picture, whatever is most of its edge, becomes black,
        and what differs most from it bright. A figure gets the size and the place that figures of the data have; where
        these have many sizes, it is the square in the middle, resized. Grey pixels become black and white by the rule
        for test images.
        """
        c, h, w = self.shape
        x = picture.mean(0, keepdim=True) if c == 1 else picture.expand(3, -1, -1)
        if self.dark:
            ground = _edge(picture.mean(0, keepdim=True)).median().item()
            x = (x - ground).abs() / max(ground, 1 - ground)
        if self.extent is not None and x.max() > 0:
            x = self._figure(x)
        else:
            side = min(x.shape[1:])
            top, left = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2
            x = _resized(x[:, top : top + side, left : left + side], h, w)
        if self.centre is not None and x.max() > 0:
            x = _moved(x, self.centre)
        pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8).unsqueeze(0)
        return scaled(binary(pixels, once(self.binarize), noise.TEST))

    def _figure(self, x: Tensor) -> Tensor:
        """What is drawn, as large as figures of the data, in the middle of an image of their size."""
        assert self.extent is not None
        _, h, w = self.shape
        ink = x.mean(0) > INK * x.mean(0).max()
        rows, columns = ink.any(1).nonzero().flatten(), ink.any(0).nonzero().flatten()
        figure = x[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        factor = self.extent / max(figure.shape[1:])
        height, width = (max(1, round(factor * n)) for n in figure.shape[1:])
        figure = _resized(figure, min(h, height), min(w, width))
        top, left = (h - figure.shape[1]) // 2, (w - figure.shape[2]) // 2
        return F.pad(figure, (left, w - left - figure.shape[2], top, h - top - figure.shape[1]))


def _edge(grey: Tensor) -> Tensor:
    """The outermost pixels of images (N, H, W), (N, 2 H + 2 W)."""
    return torch.cat([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], 1)


def _resized(x: Tensor, h: int, w: int) -> Tensor:
    return F.interpolate(x.unsqueeze(0), (h, w), mode="bilinear", antialias=True)[0]


def _extents(grey: Tensor) -> Tensor:
    """The longer side of the figure in each image (N, H, W), in pixels, (N,)."""
    ink = grey > INK * grey.amax((1, 2), keepdim=True)
    return torch.stack([_length(ink.any(2)), _length(ink.any(1))]).amax(0).to(grey.dtype)


def _length(hit: Tensor) -> Tensor:
    """From the first true to the last in each row (N, L), both included."""
    hit = hit.byte()
    return hit.shape[1] - hit.flip(1).argmax(1) - hit.argmax(1)


def _centres(grey: Tensor) -> Tensor:
    """Row and column of the centre of mass of each image (N, H, W), (N, 2)."""
    total = grey.sum((1, 2))
    rows, columns = (torch.arange(n, dtype=grey.dtype) for n in grey.shape[1:])
    return torch.stack([grey.sum(2) @ rows / total, grey.sum(1) @ columns / total], 1)


def _moved(x: Tensor, centre: tuple[float, float]) -> Tensor:
    """An image (C, H, W), by whole pixels, so that its centre of mass comes to lie there; nothing is cut off."""
    now = _centres(x.mean(0, keepdim=True))[0]
    for axis, (target, here) in enumerate(zip(centre, now.tolist(), strict=True), start=1):
        hit = (x > 0).any(0).any(2 - axis).nonzero().flatten()
        room = -int(hit[0]), x.shape[axis] - 1 - int(hit[-1])
        x = x.roll(min(max(round(target - here), room[0]), room[1]), axis)
    return x
