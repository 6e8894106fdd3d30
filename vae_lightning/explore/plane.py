"""Two coordinates in a space of many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plane:
    """Two coordinates in a space of D: the latents themselves where there are two, else two principal components.

    >>> z = torch.tensor([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [2.0, 1.0, 1.0], [2.0, -1.0, 1.0]])
    >>> plane = Plane.through(z)
    >>> plane.down(z), torch.equal(plane.up(plane.down(z)), z)
    (tensor([[-2.,  0.],
             [ 2.,  0.],
             [ 0.,  1.],
             [ 0., -1.]]), True)
    """

    origin: Tensor  # (D,)
    axes: Tensor  # (D, 2), at right angles, of length one
    share: float  # of the variance of the points

    @classmethod
    def through(cls, z: Tensor) -> Plane:
        """The plane next to points z (N, D)."""
        d = z.shape[1]
        if d <= 2:
            return cls(z.new_zeros(d), torch.eye(d, 2, dtype=z.dtype), 1.0)
        origin = z.mean(0)
        values, vectors = torch.linalg.eigh((z - origin).T @ (z - origin))
        axes = vectors[:, -2:].flip(1)
        signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # the same plane on every machine
        return cls(origin, axes * signs, (values[-2:].sum() / values.sum()).item())

    def down(self, z: Tensor) -> Tensor:
        """Points (..., D) -> their coordinates in the plane (..., 2), dropped at right angles."""
        return (z - self.origin) @ self.axes

    def up(self, u: Tensor) -> Tensor:
        """Coordinates (..., 2) -> the points of the plane (..., D)."""
        return self.origin + u @ self.axes.T
