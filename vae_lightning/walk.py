"""Ways through the latent space, as tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def linear(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points at equal distances on the line from a to b, both included; a, b (*shape) -> (steps, *shape).

    >>> linear(torch.tensor([0.0, 1.0]), torch.tensor([4.0, 1.0]), 3)[:, 0]
    tensor([0., 2., 4.])
    """
    t = _fractions(a, steps)
    return (1 - t) * a + t * b


def spherical(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points at equal angles on the arc from a to b, both included; a, b (*shape) -> (steps, *shape).

    Shoemake (1985), "Animating rotation with quaternion curves"; used for latents by White (2016), arXiv:1609.04468.
    The direction turns evenly, the norm goes linearly from |a| to |b|. Vectors that point the same way give the
    line between them. Opposite ones have no shortest arc: it goes through a direction at right angles to them.

    >>> spherical(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), 3).norm(dim=1)
    tensor([1.0000, 1.5000, 2.0000])
    """
    u, v = a.flatten(), b.flatten()
    norms = u.norm(), v.norm()
    if min(norms) == 0:
        return linear(a, b, steps)
    u, v = u / norms[0], v / norms[1]
    side = v - (u @ v) * u
    if (u @ v) < 0 and side.norm() < 1e-3:  # opposite: what is left of v is rounding, and any way is as short
        side = torch.zeros_like(u).scatter(0, u.abs().argmin(), 1)
        side = side - (u @ side) * u
    angle = 2 * torch.atan2((u - v).norm(), (u + v).norm())  # exact for small angles, where acos is not
    side = side / side.norm().clamp(min=torch.finfo(u.dtype).tiny)
    t = _fractions(u, steps)
    directions = (t * angle).cos() * u + (t * angle).sin() * side
    path = (((1 - t) * norms[0] + t * norms[1]) * directions).view(steps, *a.shape)
    return torch.cat([a[None], path[1:-1], b[None]])[:steps]  # the ends to the last bit


def traversal(z: Tensor, dim: int, values: Tensor) -> Tensor:
    """z with each of `values` in place of one of its numbers; z (*shape), values (n,) -> (n, *shape).

    Args:
        z: one latent.
        dim: which number, counted in `z.flatten()`.
        values: those that it takes, one after the other.

    >>> traversal(torch.tensor([5.0, 6.0]), 1, torch.tensor([0.0, 1.0])).tolist()
    [[5.0, 0.0], [5.0, 1.0]]
    """
    found = z.flatten().repeat(len(values), 1)
    found[:, dim] = values
    return found.view(len(values), *z.shape)


def _fractions(like: Tensor, steps: int) -> Tensor:
    """0 to 1 in equal steps, to be multiplied by tensors of this shape."""
    return torch.linspace(0, 1, steps, dtype=like.dtype, device=like.device).view(-1, *[1] * like.dim())
