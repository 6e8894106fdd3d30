"""The normal distribution, drawn from without a question to the device."""

from __future__ import annotations

import torch
from torch import Tensor, distributions
from torch.types import _size


class Normal(distributions.Normal):
    """torch's own, but that a draw without a gradient is made as one with it: `torch.normal` looks whether all standard
    deviations are positive, for which the processor waits."""

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            return self.rsample(sample_shape)
