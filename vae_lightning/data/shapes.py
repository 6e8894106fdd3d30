"""Shapes drawn from five known factors, in the manner of dSprites."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vae_lightning.data.images import Raw
from vae_lightning.data.split import hold_out
from vae_lightning.schema import Count, Fraction, NonNegativeInt

TRAITS = {"values": "pixels"}

NAMES = ("shape", "scale", "orientation", "x", "y")
SIDE = 0.3  # of the largest sprite: the root of its area, as a part of the image's side
REACH = 0.8  # no sprite of area 1 reaches farther from its centre of mass
ELLIPSE = math.sqrt(2 / math.pi), math.sqrt(0.5 / math.pi)  # half-axes 2:1, area 1
HEART = 1 / math.sqrt(1 + math.pi / 4)  # side of the square in it: a square and two half discs have area 1
HEART_MASS = (math.pi / 16 + 1 / 12) * HEART**3  # from the middle of the square to the centre of mass, on either axis


class Shapes:
    """Grey images (1, size, size) of a square, an ellipse or a heart: one for every combination of five factors.

    Scale runs from 0.5 to 1, orientation once around, counter-clockwise, and the centre of mass over all places where
    every sprite is whole, x to the right and y down: equal steps. Sprites of one scale have the same area. Labels are
    the shape. After Matthey et al. (2017), "dSprites: Disentanglement testing Sprites dataset".

    >>> raw = Shapes(size=16, scales=2, orientations=1, xs=2, ys=2, test_size=4).read(None)
    >>> raw.train[0].shape, raw.factor_names, raw.factors[0][-1]
    (torch.Size([20, 1, 16, 16]), ('shape', 'scale', 'orientation', 'x', 'y'), tensor([2, 1, 0, 1, 1]))

    Args:
        size: pixels a side, at least 8.
        scales, orientations, xs, ys: how many values of each factor.
        test_size: images drawn for the test set, always the same; or below 1 which part of all.

    Raises:
        ValueError: the images are too small to show anything.
    """

    name = "shapes"

    def __init__(
        self,
        size: Count = 64,
        scales: Count = 4,
        orientations: Count = 8,
        xs: Count = 12,
        ys: Count = 12,
        test_size: NonNegativeInt | Fraction = 0.1,
    ) -> None:
        if size < 8:
            raise ValueError(f"data.source.size={size}: at least 8 pixels")
        self.size, self.test_size = size, test_size
        self.values = (len(OUTLINES), scales, orientations, xs, ys)

    def read(self, root: Path | None) -> Raw:
        """All images; nothing is read from `root`."""
        known = torch.cartesian_prod(*map(torch.arange, self.values))
        x = self.draw(*(column.reshape(-1, *self.values[3:]) for column in self.truth(known).T))
        x, y = x.reshape(-1, 1, self.size, self.size), known[:, 0]
        train, test = hold_out(len(x), self.test_size)
        return Raw((x[train], y[train]), (x[test], y[test]), (known[train], known[test]), NAMES)

    def truth(self, factors: Tensor) -> Tensor:
        """Indices (N, 5) -> shape, side in pixels (the root of the area), angle in radians, x and y in pixels (N, 5).

        >>> Shapes(size=100, scales=2).truth(torch.tensor([[0, 1, 4, 0, 11]]))
        tensor([[ 0.0000, 30.0000,  3.1416, 25.0000, 75.0000]])
        """
        margin = REACH * SIDE * self.size + 1
        shape, scale, angle, x, y = factors.T
        columns = [
            shape,
            _spread(0.5, 1, self.values[1])[scale] * SIDE * self.size,
            angle * (2 * math.pi / self.values[2]),
            _spread(margin, self.size - margin, self.values[3])[x],
            _spread(margin, self.size - margin, self.values[4])[y],
        ]
        return torch.stack([column.float() for column in columns], 1)

    def draw(self, shape: Tensor, side: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Images (K, X, Y, size, size) uint8 of truths (K, X, Y), the first three of which change with K only.

        A pixel is as bright as the part of it that the sprite covers, judged by how far its centre is from the outline.
        """
        images = torch.zeros(*shape.shape, self.size, self.size, dtype=torch.uint8)
        i, j = torch.arange(shape.shape[1])[:, None, None, None], torch.arange(shape.shape[2])[:, None, None]
        for k, outline in enumerate(OUTLINES[int(s)] for s in shape[:, 0, 0]):
            scale, cos, sin = side[k, 0, 0], angle[k, 0, 0].cos(), angle[k, 0, 0].sin()
            column, row = self._window(x[k], scale)[:, :, None, :], self._window(y[k], scale)[..., None]
            right, up = (column + 0.5 - x[k, ..., None, None]) / scale, (y[k, ..., None, None] - row - 0.5) / scale
            distance = outline(cos * right + sin * up, cos * up - sin * right) * scale
            images[k][i, j, row, column] = (0.5 - distance).clamp_(0, 1).mul_(255).round_().to(torch.uint8)
        return images

    def _window(self, centre: Tensor, scale: Tensor) -> Tensor:
        """Centres (X, Y) -> the pixels (X, Y, P) around them that a sprite can reach: most of an image is empty."""
        n = min(self.size, 2 * math.ceil(REACH * float(scale)) + 3)
        return (centre - n / 2).round().long().clamp(0, self.size - n)[..., None] + torch.arange(n)


def _spread(low: float, high: float, n: int) -> Tensor:
    """`n` numbers in equal steps from `low` to `high`; a single one lies in the middle."""
    return torch.linspace(low, high, n) if n > 1 else torch.tensor([(low + high) / 2])


# How far (u, v) is outside of a sprite of area 1 around its centre of mass, u to the right and v up; inside negative.
def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.5


def _ellipse(u: Tensor, v: Tensor) -> Tensor:
    a, b = ELLIPSE
    level = torch.hypot(u / a, v / b).clamp(min=1e-3)  # 1 on the outline
    return (level - 1) * level / torch.hypot(u / a**2, v / b**2).clamp(min=1e-6)  # to first order


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """A square that stands on a corner, and a half disc on each of its upper sides."""
    u, v = (u + v) * math.sqrt(0.5), (v - u) * math.sqrt(0.5)
    u, v, r = u + HEART_MASS, v + HEART_MASS, HEART / 2
    square = torch.maximum(u.abs(), v.abs()) - r
    return torch.minimum(square, torch.minimum(torch.hypot(u - r, v), torch.hypot(u, v - r)) - r)


OUTLINES: list[Callable[[Tensor, Tensor], Tensor]] = [_square, _ellipse, _heart]
