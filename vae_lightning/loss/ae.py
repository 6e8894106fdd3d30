"""The distortion alone: a plain autoencoder."""

from __future__ import annotations

from torch import Tensor, nn

from vae_lightning.needs import FIXED_PRIOR, POINT
from vae_lightning.trace import Trace

NEEDS = {**POINT, **FIXED_PRIOR}


class AE(nn.Module):
    """-log p(x | z) at z = z(x). Hinton and Salakhutdinov (2006), 10.1126/science.1127647.

    >>> list(AE().parameters())
    []
    """

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        distortion = -trace.log_likelihood().mean()
        return distortion, {"distortion": distortion}
