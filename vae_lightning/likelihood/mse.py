"""The squared error: an energy."""

from __future__ import annotations

from torch import Tensor, distributions, nn

from vae_lightning.distribution.energy import Energy
from vae_lightning.schema import Output, Positive

TRAITS = {"density": False}


class MSE(nn.Module):
    """weight |x - mean|^2, summed over pixels: a normal log-density of variance 1 / (2 weight) without its constant.

    So loss.beta=1 with weight=1 trains as likelihood=normal with likelihood.sigma=0.7071 does. An average over pixels,
    as it is often found, is weight = 1 / (C H W).

    >>> import torch
    >>> MSE(shape=(1, 2, 2))(torch.zeros(5, 1, 2, 2)).log_prob(torch.ones(1, 2, 2))[0]
    tensor(-4.)

    Args:
        shape: (C, H, W).
        weight: nats per squared unit of a pixel.
        output: `linear`, or `sigmoid` to keep the mean in [0, 1].
    """

    density = False

    def __init__(self, shape: tuple[int, ...], weight: Positive = 1.0, output: Output = "linear") -> None:
        super().__init__()
        self.shape = self.param_shape = tuple(shape)
        self.weight, self.output = weight, output

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., C, H, W) -> energy, batch (...), event (C, H, W)."""
        mean = params.sigmoid() if self.output == "sigmoid" else params
        return Energy(mean, lambda x, mean: self.weight * (x - mean).square().sum((-3, -2, -1)))
