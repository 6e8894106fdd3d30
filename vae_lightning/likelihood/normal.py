"""p(x | z) = N(mean, sigma^2) for grey pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, distributions, nn
from torch.distributions import Independent

from vae_lightning.gather import average
from vae_lightning.schema import Output, Positive

TRAITS = {"density": True}
NEEDS = {
    "data.binarize": (
        ["none"],
        "a normal density is for grey pixels: say data.binarize=none or likelihood=bernoulli",
    )
}
SLOWNESS = 0.99  # of the average of the optimal variance


class OptimalNormal(Independent):
    """A normal distribution that first sets its variance to the mean squared error at hand, and remembers it."""

    def __init__(self, mean: Tensor, variance: Tensor, event_dims: int) -> None:
        self.remembered = variance
        super().__init__(distributions.Normal(mean, variance.sqrt().expand_as(mean)), event_dims)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats with the best variance for all of `value`, shape (*batch)."""
        error = (value - self.base_dist.loc).square().flatten(-self.reinterpreted_batch_ndims)
        variance = average(error.mean()).clamp(min=1e-8)
        self.remembered.lerp_(variance.detach().to(self.remembered.dtype), 1 - SLOWNESS)
        return -(error / variance + (2 * math.pi * variance).log()).sum(-1) / 2


class Normal(nn.Module):
    """Independent normal pixels around the network's output.

    >>> p = Normal(shape=(1, 2, 2), sigma=1.0)(torch.zeros(5, 1, 2, 2))
    >>> p.log_prob(torch.zeros(1, 2, 2))[0]  # -2 log 2 pi nats
    tensor(-3.6758)

    Args:
        shape: (C, H, W).
        scale: where sigma comes from: `fixed`; `learned`, one for all pixels; `pixel`, the network gives one for each;
            `optimal`, one for all, in closed form: the root mean squared error of the minibatch in training, its
            running average afterwards (so that what is reported is a density). Rybkin et al. (2021), "sigma-VAE",
            arXiv:2006.13202, eq. 6 and 7.
        sigma: in units of the pixels, which lie in [0, 1]; if learned, where learning starts.
        output: `linear`, or `sigmoid` to keep the mean in [0, 1].
    """

    density = True
    variance: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        scale: Literal["fixed", "learned", "pixel", "optimal"] = "fixed",
        sigma: Positive = 0.1,
        output: Output = "linear",
    ) -> None:
        super().__init__()
        self.shape, self.scale, self.output = tuple(shape), scale, output
        self.param_shape = (2 * shape[0], *shape[1:]) if scale == "pixel" else self.shape
        if scale == "optimal":
            self.register_buffer("variance", torch.tensor(sigma**2))
        else:
            start = torch.tensor(math.log(sigma))
            self.log_sigma = nn.Parameter(start, requires_grad=scale in ("learned", "pixel"))

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., C or 2 C, H, W) -> p(x | z), batch (...), event (C, H, W)."""
        mean, extra = params.chunk(2, dim=-3) if self.scale == "pixel" else (params, 0.0)
        mean = mean.sigmoid() if self.output == "sigmoid" else mean
        if self.scale == "optimal":
            if self.training and torch.is_grad_enabled():
                return OptimalNormal(mean, self.variance, len(self.shape))
            sigma = self.variance.sqrt()
        else:
            sigma = (self.log_sigma + extra).exp()
        return Independent(distributions.Normal(mean, sigma.expand_as(mean)), len(self.shape))
