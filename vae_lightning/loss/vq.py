"""Vector quantisation: distortion, codebook, commitment and the rate of the codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_lightning.gather import gather
from vae_lightning.loss.elbo import parts
from vae_lightning.needs import ONE_LATENT
from vae_lightning.schema import NonNegative
from vae_lightning.trace import Trace

NEEDS = {
    "posterior:space": (["codes"], "it trains a codebook: say posterior=codebook prior=codes or loss=elbo"),
    **ONE_LATENT,
}


class VQ(nn.Module):
    """VQ-VAE. van den Oord et al. (2017), arXiv:1711.00937, eq. 3.

    The rate is that of the codes under their prior: with prior.kind=uniform the constant positions x levels x log K,
    with prior.kind=autoregressive what the prior learns. distortion + rate bounds -log p(x).

    Args:
        commitment: weight of the distance from encodings to codes, beta in the paper.

    >>> VQ().commitment
    0.25
    """

    def __init__(self, commitment: NonNegative = 0.25) -> None:
        super().__init__()
        self.commitment = commitment

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        terms = parts(trace)
        q = trace.latents[0].q
        codebook, commitment = q.codebook_cost.mean(), q.commitment_cost.mean()  # type: ignore[attr-defined]
        loss = terms["distortion"] + terms["rate"] + codebook + self.commitment * commitment
        return loss, {**terms, "commitment": commitment, "code_entropy": _entropy(gather(q.index))}  # type: ignore[attr-defined]


def _entropy(index: Tensor) -> Tensor:
    """Of the codes that a minibatch uses, in nats; its exponential is known as the perplexity."""
    share = index.flatten().unique(return_counts=True)[1] / index.numel()
    return -(share * share.log()).sum().to(torch.get_default_dtype())
