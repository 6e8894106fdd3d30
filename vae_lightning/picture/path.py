"""Ways through the space of latents, decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Independent

from vae_lightning.picture.canvas import Sheet, room
from vae_lightning.picture.grid import tile
from vae_lightning.picture.subject import Subject
from vae_lightning.variable import Variable
from vae_lightning.walk import linear, spherical, traversal

REACH = 2.5  # standard deviations of the aggregate posterior, to each side
STEPS = 11
SIDE = 20  # images along each axis of the plane


def order(subject: Subject) -> list[tuple[int, str]]:
    """The variables of z, the most informative first, each with its name and what it was ordered by.

    By their rates, or where the rate is not that of each variable, by the standard deviation of their means.
    """
    found = subject.encoded
    if found.rates is not None:
        values = found.rates.mean(0)
        said = [f"{value:.2f} nats" for value in values.tolist()]
    else:
        mean = found.mean.flatten(1)
        values = torch.stack([mean[:, v.first : v.first + v.size].var(0).sum().sqrt() for v in found.variables])
        said = [f"sd {value:.2f}" for value in values.tolist()]
    return [(i, f"$z_{{{i}}}$, {said[i]}") for i in values.argsort(descending=True, stable=True).tolist()]


def _ways(subject: Subject, start: Tensor, v: Variable, steps: int) -> Tensor:
    """z (*latent) with other values of one of its variables, (steps, *latent); categories in their order."""
    draws = subject.encoded.draw.flatten(1)[:, v.first]
    if v.size == 1:
        at = torch.linspace(-REACH, REACH, steps, device=start.device, dtype=start.dtype)
        values = draws.mean() + draws.std() * at
        return subject.onto(traversal(start, v.first, values.clamp(-1, 1) if subject.space == "sphere" else values))
    found = start.flatten().repeat(v.size, 1)
    found[:, v.first : v.first + v.size] = torch.eye(v.size, device=start.device, dtype=start.dtype)
    return found.view(-1, *start.shape)[torch.arange(steps).clamp(max=v.size - 1)]


def _can_be_traversed(subject: Subject) -> bool:
    return subject.is_image and subject.space != "codes"


@torch.no_grad()
def traversals(subject: Subject) -> Sheet | None:
    """One image's latent, with one variable at a time going from end to end: a row each, the most informative first.

    Numbers go from -2.5 to 2.5 standard deviations around the mean of the aggregate posterior, categories from first to
    last.
    """
    if not _can_be_traversed(subject):
        return None
    found, ranked = subject.encoded, order(subject)
    some = {found.variables[i].size for i, _ in ranked}
    steps = STEPS if 1 in some else max(some)
    columns, rows = room(subject.x, steps, 12, [name for _, name in ranked])
    columns = min(columns, steps)
    chosen = ranked[:rows]
    ways = [_ways(subject, found.mean[0], found.variables[i], columns) for i, _ in chosen]
    z = torch.stack(ways, 1)  # (steps, rows, *latent)
    images = subject.decode(z, subject.c[:1].expand(len(chosen), -1)).transpose(0, 1)
    for row, (i, _) in zip(images, chosen, strict=True):
        size = found.variables[i].size
        row[size if size > 1 else columns :] = 1  # white: there are no more categories
    by = "by KL" if found.rates is not None else "by the standard deviation of the means"
    title = f"Traversals: one variable of z changes in each row ({len(chosen)} of {len(ranked)}, {by})"
    heads = [f"{at:+.1f}σ" for at in torch.linspace(-REACH, REACH, columns).tolist()] if some == {1} else []
    return Sheet(images.flatten(0, 1), columns, title, [name for _, name in chosen], heads)


@torch.no_grad()
def traversal_frames(subject: Subject) -> Sequence[Tensor] | None:
    """The same for several images at once, as the frames (C, H', W') of a film that goes there and back."""
    if not _can_be_traversed(subject):
        return None
    found = subject.encoded
    columns, rows = room(subject.x, 6, 8)
    columns = min(columns, 6, len(subject.x))
    chosen = [found.variables[i] for i, _ in order(subject)[:rows]]
    ways = [_ways(subject, found.mean[j], v, STEPS) for v in chosen for j in range(columns)]
    c = subject.c[:columns].repeat(len(chosen), 1)
    frames = [tile(each, columns) for each in subject.decode(torch.stack(ways, 1), c)]
    return [*frames, *frames[-2:0:-1]]


@torch.no_grad()
def interpolations(subject: Subject) -> Sheet | None:
    """From one image's latent to another's, on a straight line and on an arc."""
    if not subject.is_image or len(subject.x) < 2 or subject.space not in ("real", "sphere"):
        return None
    ways = {"spherical": spherical} if subject.space == "sphere" else {"linear": linear, "spherical": spherical}
    columns, rows = room(subject.x, STEPS + 2, 8, list(ways))
    pairs = min(max(1, rows // len(ways)), len(subject.x) // 2)
    if columns < 4:
        return None
    mean = subject.encoded.mean
    a, b = range(0, 2 * pairs, 2), range(1, 2 * pairs, 2)
    between = [way(mean[i], mean[j], columns - 2) for i, j in zip(a, b, strict=True) for way in ways.values()]
    c = subject.c[0 : 2 * pairs : 2].repeat_interleave(len(ways), 0)
    decoded = subject.decode(torch.stack(between, 1), c)
    ends = [subject.shown(subject.x[k : 2 * pairs : 2]).repeat_interleave(len(ways), 0)[None] for k in (0, 1)]
    images = torch.cat([ends[0], decoded, ends[1]]).transpose(0, 1).flatten(0, 1)
    title = "Interpolations between the images at both ends"
    title += ", with the label of the left one" if subject.c.shape[1] else ""
    heads = ["original", *[""] * (columns - 2), "original"]
    return Sheet(images, columns, title, [*ways] * pairs, heads)


def quantiles(subject: Subject, n: int) -> tuple[Tensor, str]:
    """The (i - 1/2) / n quantiles of both numbers of z, (n, 2), and of what they are."""
    at = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).to(subject.x)
    p = subject.model.prior(subject.c[:1])
    while isinstance(p, Independent):
        p = p.base_dist
    if not p.event_shape:
        try:
            return p.icdf(at.unsqueeze(1)).expand(n, 2), "prior"
        except NotImplementedError:
            pass
    return subject.encoded.draw.flatten(1).quantile(at, 0), "encoded images"


@torch.no_grad()
def manifold(subject: Subject) -> Sheet | None:
    """The plane of two latent numbers, decoded at quantiles. Kingma and Welling (2014), arXiv:1312.6114, figure 4."""
    if not subject.is_image or subject.space != "real" or math.prod(subject.model.latent_shape) != 2:
        return None
    side = min(SIDE, *room(subject.x, SIDE, SIDE))
    grid, of = quantiles(subject, side)
    across, up = grid[:, 0], grid[:, 1].flip(0)
    z = torch.stack([across.expand(side, side), up.unsqueeze(1).expand(side, side)], -1)
    z = z.reshape(side, side, *subject.model.latent_shape)
    images = subject.decode(z, subject.c[:1].expand(side, -1)).flatten(0, 1)
    title = f"E[x | z] at the quantiles of the {of}: $z_0$ from left to right, $z_1$ from bottom to top"
    names = [f"{value:.1f}" for value in up.tolist()], [f"{value:.1f}" for value in across.tolist()]
    return Sheet(images, side, title, *names, gap=0)
