"""Distributions over the 256 grey levels 0, 1/255, ..., 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints
from torch.types import _size

LEVELS = 256


class GreyCategorical(Distribution):
    """Any distribution over the grey levels.

    Args:
        logits: (B, 256).
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012
    support = constraints.unit_interval

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], torch.Size(), validate_args)

    @property
    def mean(self) -> Tensor:
        levels = torch.linspace(0, 1, LEVELS, dtype=self.logits.dtype, device=self.logits.device)
        return (self.logits.softmax(-1) * levels).sum(-1)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        index = Categorical(logits=self.logits).sample(sample_shape)
        return index.to(self.logits.dtype) / (LEVELS - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log of the probability of the level nearest to `value`, in nats, shape (*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        index = (value * (LEVELS - 1)).round().long()
        log_p = self.logits.log_softmax(-1)
        return log_p.gather(-1, index.expand(log_p.shape[:-1]).unsqueeze(-1)).squeeze(-1)


class GreyLogistic(Distribution):
    """A logistic distribution, cut into one bin a level; the outermost bins take the tails.

    Kingma et al. (2016), arXiv:1606.04934, appendix C; Salimans et al. (2017), arXiv:1701.05517, eq. 2.

    Args:
        location, scale: (B), in units of the pixels, which lie in [0, 1].
    """

    arg_constraints = {"location": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    support = constraints.unit_interval

    def __init__(self, location: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.location, self.scale = torch.broadcast_tensors(location, scale)
        super().__init__(self.location.shape, torch.Size(), validate_args)

    @property
    def mean(self) -> Tensor:
        """The location, kept in [0, 1]: the mean but for what the outermost bins do."""
        return self.location.clamp(0, 1)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.location.dtype, device=self.location.device)
        x = self.location + self.scale * torch.logit(u, eps=1e-7)
        return (x * (LEVELS - 1)).round().clamp(0, LEVELS - 1) / (LEVELS - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log of the probability of the bin around `value`, in nats, shape (*batch)."""
        if self._validate_args:
            self._validate_sample(value)
        half = 0.5 / (LEVELS - 1)
        above, below = (value - self.location + half) / self.scale, (value - self.location - half) / self.scale
        # log(sigmoid(above) - sigmoid(below)), without cancellation: with width = above - below it is
        # logsigmoid(above) + logsigmoid(-below) + log(1 - exp(-width))
        width = 2 * half / self.scale
        inside = F.logsigmoid(above) + F.logsigmoid(-below) + (-torch.expm1(-width)).log()
        at_0, at_1 = value < half, value > 1 - half
        return torch.where(at_0, F.logsigmoid(above), torch.where(at_1, F.logsigmoid(-below), inside))
