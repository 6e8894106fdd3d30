"""Annealed importance sampling with Hamiltonian transitions. Shapes: S chains, B images, T temperatures, D latent."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lightning.progress import track

ACCEPTED = 0.65  # the rate of acceptance at which a step has the best length
SPEED = 0.2  # of its adaption

Density = Callable[[Tensor], tuple[Tensor, Tensor]]  # z (S, B, D) -> log p(z) and log p(x | z), (S, B) each


class Chains(NamedTuple):
    """What chains have seen on their way."""

    log_w: Tensor  # (S, B) nats, float64
    steps: Tensor  # (T, B): the lengths of the leapfrog steps
    accepted: Tensor  # (T, B): part of the chains


class Point(NamedTuple):
    """Where chains are, and the densities and slopes there."""

    z: Tensor  # (S, B, D)
    prior: Tensor  # (S, B) nats
    likelihood: Tensor
    prior_slope: Tensor  # (S, B, D)
    likelihood_slope: Tensor


def anneal(
    density: Density,
    z: Tensor,
    betas: Tensor,
    leapfrog: int = 10,
    steps: Tensor | None = None,
    backwards: bool = False,
    what: str = "annealing",
) -> Chains:
    """Carry chains from p(z) over p(z) p(x|z)^beta to p(z | x), or back. Neal (2001), arXiv:physics/9803008.

    Forwards mean w is an unbiased estimate of p(x), backwards mean 1/w one of 1/p(x): Grosse et al. (2015),
    arXiv:1511.02543, section 4.1.

    Args:
        density: of z, and of x given z.
        z: draws of p(z), or, backwards, of p(z | x): (S, B, D).
        betas: rising from 0 to 1, (T + 1), float64.
        leapfrog: steps per transition.
        steps: their lengths (T, B); without them they are adapted as the chains go, which costs a little bias.
        backwards: start at beta = 1.
        what: is shown beside the bar.
    """
    point = _at(density, z)
    log_w = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device)
    step, used, rates = z.new_full(z.shape[1:2], 0.5), {}, {}
    temperatures = range(len(betas) - 1)
    for t in track(temperatures[::-1] if backwards else temperatures, what):
        size, beta = betas[t + 1] - betas[t], float(betas[t + 1])
        used[t] = step = step if steps is None else steps[t]
        log_w += size * point.likelihood * (not backwards)
        point, rates[t] = _transition(density, point, beta, step, leapfrog)
        log_w += size * point.likelihood * backwards
        step = step * torch.exp(SPEED * (rates[t] - ACCEPTED))
    return Chains(log_w, *(torch.stack([values[t] for t in temperatures]) for values in (used, rates)))


def _at(density: Density, z: Tensor) -> Point:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        prior, likelihood = density(z)
        slopes = [torch.autograd.grad(value.sum(), z)[0] for value in (prior, likelihood)]
    return Point(z.detach(), prior.detach(), likelihood.detach(), *slopes)


def _transition(density: Density, start: Point, beta: float, step: Tensor, leapfrog: int) -> tuple[Point, Tensor]:
    """One step of Hamiltonian Monte Carlo that leaves p(z) p(x|z)^beta as it is, and the part that was accepted (B,).

    Neal (2012), arXiv:1206.1901, section 3.2.
    """
    length = step.view(1, -1, *[1] * (start.z.dim() - 2))
    dims = tuple(range(2, start.z.dim()))

    def energy(point: Point, momentum: Tensor) -> Tensor:
        return momentum.square().sum(dims) / 2 - point.prior - beta * point.likelihood

    def slope(point: Point) -> Tensor:
        return point.prior_slope + beta * point.likelihood_slope

    first = momentum = torch.randn_like(start.z)
    point = start
    for _ in range(leapfrog):
        momentum = momentum + length / 2 * slope(point)
        point = _at(density, point.z + length * momentum)
        momentum = momentum + length / 2 * slope(point)
    log_ratio = (energy(start, first) - energy(point, momentum)).nan_to_num(nan=-torch.inf)
    taken = torch.rand_like(log_ratio).log() < log_ratio
    mixed = (
        torch.where(taken.view(*taken.shape, *[1] * (new.dim() - 2)), new, old)
        for new, old in zip(point, start, strict=True)
    )
    return Point(*mixed), log_ratio.clamp(max=0).exp().mean(0)


def sigmoidal(temperatures: int, reach: float = 4.0) -> Tensor:
    """From 0 to 1, slowly at both ends, (T + 1), float64. Wu et al. (2017), arXiv:1611.04273, section 4.1.

    >>> sigmoidal(2)
    tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    s = torch.sigmoid(reach * torch.linspace(-1, 1, temperatures + 1, dtype=torch.float64))
    return (s - s[0]) / (s[-1] - s[0])
