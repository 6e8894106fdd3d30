"""How much the latents say of the image, and which of them say it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.metric.value import Names, Value, refuse
from vae_lightning.needs import RATE
from vae_lightning.schema import Count, Positive
from vae_lightning.trace import Latent
from vae_lightning.trained import Trained, centre
from vae_lightning.units import NATS
from vae_lightning.variable import rates

PAIRS = 2**21  # numbers of a draw under the posteriors of other images, at a time


class Information:
    """Mutual information, the aggregate posterior, active units and the rate of each dimension.

    The rate is I(x; z) + KL(q(z) || p(z)): Hoffman and Johnson (2016), "ELBO surgery", eq. 10, where q(z) is the mean
    of the posteriors of the test images, so that I(x; z) is at most log n for n images. A unit is active if its mean
    varies by more than 0.01: Burda et al. (2016), arXiv:1509.00519, section 5.2. With several layers of latents all
    this is said of the top one.

    Args:
        images: test images.
        active: the least variance of an active unit's mean.
        dimensions: of z whose rate is told, the largest first.
    """

    lower_is_better: Names = ()
    higher_is_better: Names = ()

    def __init__(self, images: Count | None = 1000, active: Positive = 0.01, dimensions: Count = 20) -> None:
        self.images, self.active, self.dimensions = images, active, dimensions

    def __call__(self, trained: Trained) -> dict[str, Value]:
        """active_units, mutual_information, aggregate_kl, and the rate of each dimension, in nats per image."""
        refuse(trained, RATE)
        model = trained.model
        x, _, c = trained.first("test", self.images)
        with torch.no_grad():
            q, p = model.encode(x, c), model.prior(c)
            z = q.sample()
            rate = Latent(q, p, z[None], lambda: q).rate().view(-1).double()
            inside = mutual_information(q, z)
        n, d = len(x), math.prod(q.event_shape)
        units = active_units(centre(q), self.active)
        full = "" if inside.mean() < 0.9 * math.log(n) else ", and close to its limit for so many, log n"
        values = {
            "active_units": Value(units, f"of {d}", note=_collapse(units, d)),
            "mutual_information": Value(inside.mean().item(), NATS, _error(inside), f"I(x; z), n = {n} images{full}"),
            "aggregate_kl": Value((rate - inside).mean().item(), NATS, _error(rate - inside), "KL(q(z) || p(z))"),
        }
        each_rate = rates(q, p)
        if each_rate is not None:
            each = each_rate.mean(0).topk(min(self.dimensions, each_rate.shape[1]))
            shown = zip(each.indices.tolist(), each.values.tolist(), strict=True)
            values |= {f"rate_of_z{i}": Value(value, NATS) for i, value in shown}
        return values


def mutual_information(q: Distribution, z: Tensor) -> Tensor:
    """log q(z_i | x_i) - log q(z_i) for the draw z (N, *latent) of each of N images, in nats, (N,) float64.

    q(z) is the mean of all N posteriors; the mean of the result estimates I(x; z).

    >>> from torch.distributions import Independent, Normal
    >>> apart = Independent(Normal(torch.tensor([[0.0], [9.0]]), 0.1), 1)
    >>> (mutual_information(apart, torch.tensor([[0.0], [9.0]])) / math.log(2)).round(decimals=4)
    tensor([1., 1.], dtype=torch.float64)
    """
    portion = max(1, PAIRS // z.numel())
    every = torch.cat([q.log_prob(part.unsqueeze(1)) for part in z.split(portion)])  # (N, N): draw, posterior
    return (every.diagonal() - every.logsumexp(1) + math.log(len(z))).double()


def active_units(mean: Tensor, least: float) -> int:
    """How many of the numbers in `mean` (N, *latent) vary by more than `least` over the images."""
    return int((mean.flatten(1).var(0) > least).sum())


def _collapse(units: int, d: int) -> str:
    if units >= d / 2:
        return ""
    if units == 0:
        return "the posterior has collapsed: z says nothing of x; try beta=warmup or a smaller loss.beta"
    return (
        f"the other {d - units} say nothing of x; if you want them, try beta=warmup, a smaller loss.beta or prior=vamp"
    )


def _error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values))
