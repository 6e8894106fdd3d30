"""How two clouds of points overlap: precision and recall, density and coverage."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEAREST, NEAREST_DENSITY = 3, 5  # neighbours whose distance is a radius, as in the two papers
ROWS = 256  # points at a time


class Overlap(NamedTuple):
    """Balls around the points of one cloud, each as far as its k-th neighbour, and who lies in them.

    Kynkaanniemi et al. (2019), arXiv:1904.06991, eq. 1 and 2, with k = 3; Naeem et al. (2020), arXiv:2002.09797,
    section 3, with k = 5.
    """

    precision: float  # the share of samples that lie in a ball of a real point
    recall: float  # the share of real points that lie in a ball of a sample
    density: float  # balls of real points that a sample lies in, on average, divided by k; 1 for the same distribution
    coverage: float  # the share of real points with a sample in their ball


def overlap(real: Tensor, fake: Tensor) -> Overlap:
    """Features (N, F) and (M, F), each of more than 5 points.

    >>> cloud = torch.randn(50, 2)
    >>> overlap(cloud, cloud + 100)
    Overlap(precision=0.0, recall=0.0, density=0.0, coverage=0.0)
    """
    real, fake = real.double(), fake.double()
    near, balls_fake = nearest(real, NEAREST_DENSITY), nearest(fake, NEAREST)[:, -1]
    balls, balls_density = near[:, NEAREST - 1], near[:, -1]
    precise, dense = [], []
    for rows in fake.split(ROWS):
        far = distances(rows, real)
        precise.append((far <= balls).any(1))
        dense.append((far <= balls_density).sum(1))
    recalled, covered = [], []
    for rows, radius in zip(real.split(ROWS), balls_density.split(ROWS), strict=True):
        far = distances(rows, fake)
        recalled.append((far <= balls_fake).any(1))
        covered.append((far <= radius.unsqueeze(1)).any(1))
    parts = (torch.cat(part).double().mean().item() for part in (precise, recalled, dense, covered))
    precision, recall, density, coverage = parts
    return Overlap(precision, recall, density / NEAREST_DENSITY, coverage)


def nearest(points: Tensor, k: int) -> Tensor:
    """The distances (N, k) of each of the points (N, F) to its k nearest neighbours, the nearest first.

    >>> nearest(torch.tensor([[0.0], [1.0], [3.0]]), 2)
    tensor([[1., 3.],
            [1., 2.],
            [2., 3.]])
    """
    found = [distances(rows, points).topk(k + 1, largest=False).values for rows in points.split(ROWS)]
    return torch.cat(found)[:, 1:]  # the first is the point itself


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, F), (M, F) -> (N, M); exactly 0 between equal points, which a matrix product would not give."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
