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
        q, codes = trace.latents[0].q, trace.latents[0].p.book.n_codes  # type: ignore[attr-defined]
        codebook, commitment = q.codebook_cost.mean(), q.commitment_cost.mean()  # type: ignore[attr-defined]
        loss = terms["distortion"] + terms["rate"] + codebook + self.commitment * commitment
        entropy = _entropy(gather(q.index), codes)  # type: ignore[attr-defined]
        return loss, {**terms, "commitment": commitment, "code_entropy": entropy}


def _entropy(index: Tensor, codes: int) -> Tensor:
    """Of the codes that a minibatch uses, in nats; its exponential is known as the perplexity.

    >>> _entropy(torch.tensor([[3, 0], [3, 0]]), codes=8)  # log 2
    tensor(0.6931)
    """
    each = torch.ones(index.numel(), device=index.device)
    uses = torch.zeros(codes, device=index.device).index_add_(0, index.flatten(), each)
    return torch.special.entr(uses / index.numel()).sum()
