"""A tight bound for the decoder, several loose ones for the encoder."""

from __future__ import annotations

from torch import Tensor, nn

from vae_lightning.loss.iwae import importance_bound, weigh
from vae_lightning.model.vae import VAE
from vae_lightning.needs import BOUND
from vae_lightning.schema import Count, Estimator
from vae_lightning.trace import constant

NEEDS = {
    **BOUND,
    "model:two_parts": ([True], "encoder and decoder share layers, and it trains them apart: say loss=miwae"),
    "prior:borrowed": ([False], "the prior uses the encoder, and it trains them apart: say loss=miwae"),
}


class PIWAE(nn.Module):
    """The encoder follows MIWAE, the decoder and the prior follow IWAE. Rainforth et al. (2018), arXiv:1802.04537,
    section 4, eq. 13-14.

    The draws are decoded twice, once for each. The value is that of the tighter bound, log p(x) from groups x samples
    draws.

    Args:
        groups: M, of the encoder's bound.
        samples: K, draws of z per image in each group.
        estimator: of the encoder's gradient, see `importance_bound`.

    >>> PIWAE(groups=8, samples=8).samples
    8
    """

    def __init__(self, groups: Count = 4, samples: Count = 4, estimator: Estimator = "standard") -> None:
        super().__init__()
        self.groups, self.samples, self.estimator = groups, samples, estimator

    def forward(self, model: VAE, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        with constant(*model.generative()):
            trace = model(x, c, self.groups * self.samples)
            log_w, _ = weigh(trace, self.estimator)
            encoder = importance_bound(trace, log_w, self.groups, estimator=self.estimator).mean()
        again = model.replay(trace, c)
        log_w, terms = weigh(again)
        return -importance_bound(again, log_w).mean() - (encoder - encoder.detach()), terms
