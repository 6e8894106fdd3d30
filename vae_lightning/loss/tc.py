"""The rate in three parts, each with a weight of its own."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vae_lightning.gather import gather_batch, mine
from vae_lightning.needs import FACTORISED, ONE_LATENT
from vae_lightning.schema import NonNegative
from vae_lightning.trace import Latent, Trace

NEEDS = {**FACTORISED, **ONE_LATENT}
Weighting = Literal["weighted", "stratified"]


def log_importance(batch: int, n_train: int, weighting: Weighting, like: Tensor) -> Tensor:
    """Log-weights (B, B) of the posterior of image j (column) in the aggregate density at the draw of image i (row).

    `weighted`: 1 / (N B) each, the minibatch-weighted sampling of Chen et al. (2018), arXiv:1802.04942, appendix C.1,
    eq. S4-S5, whose weights do not sum to one. `stratified`: appendix C.2, eq. S6: an image's own posterior counts
    1 / N, one other counts what it stands for, and the rest 1 / M with M = B - 1; they sum to one.

    >>> log_importance(3, 10, "stratified", torch.zeros(())).exp()
    tensor([[0.1000, 0.4000, 0.5000],
            [0.5000, 0.1000, 0.4000],
            [0.4000, 0.5000, 0.1000]])
    """
    if batch == 1:
        return like.new_zeros(1, 1)
    if weighting == "weighted":
        return like.new_full((batch, batch), -math.log(batch * n_train))
    m = batch - 1
    rows = torch.arange(batch, device=like.device)
    further = (rows - rows.unsqueeze(1)) % batch  # by how many images the column lies behind the row
    weights = like.new_full((batch, batch), 1 / m).masked_fill(further == 0, 1 / n_train)
    return weights.masked_fill(further == 1, max(n_train - m, 0) / (n_train * m)).log()


def decompose(latent: Latent, n_train: int, weighting: Weighting) -> tuple[Tensor, Tensor, Tensor]:
    """Mutual information I(x; z), total correlation KL(q(z) || prod_d q(z_d)) and sum_d KL(q(z_d) || p(z_d)), in nats.

    Chen et al. (2018), arXiv:1802.04942, eq. 2, from the first draw of each image of the minibatch. They sum to an
    estimate of the rate.
    """
    z = latent.z[0]  # (B, D)
    every_q = gather_batch(latent.q.base_dist)  # type: ignore[attr-defined]
    each = every_q.log_prob(z.unsqueeze(1))  # (B, B, D): row i, density j
    log_w = mine(log_importance(each.shape[1], n_train, weighting, z))
    log_qzx = latent.q.log_prob(z)
    log_qz = (each.sum(-1) + log_w).logsumexp(1)
    log_product = (each + log_w.unsqueeze(-1)).logsumexp(1).sum(-1)
    log_pz = latent.p.log_prob(z)
    return (log_qzx - log_qz).mean(), (log_qz - log_product).mean(), (log_product - log_pz).mean()


class TC(nn.Module):
    """beta-TCVAE: distortion + alpha I(x; z) + beta TC(z) + gamma sum_d KL(q(z_d) || p(z_d)).

    Chen et al. (2018), arXiv:1802.04942, eq. 4. `rate` is the true one, not the sum of its estimated parts.

    Args:
        n_train: N, the number of training images.
        alpha: weight of the mutual information.
        beta: weight of the total correlation.
        gamma: weight of the dimension-wise divergence.
        weighting: how the minibatch stands for the training set, see `log_importance`.

    >>> TC(n_train=60_000).beta
    6.0
    """

    def __init__(
        self,
        n_train: int,
        alpha: NonNegative = 1.0,
        beta: NonNegative = 6.0,
        gamma: NonNegative = 1.0,
        weighting: Weighting = "stratified",
    ) -> None:
        super().__init__()
        self.n_train, self.weighting = n_train, weighting
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        (latent,) = trace.latents
        information, correlation, dimensions = decompose(latent, self.n_train, self.weighting)
        distortion = -trace.log_likelihood().mean()
        price = self.alpha * information + self.beta * correlation + self.gamma * dimensions
        return distortion + price, {
            "distortion": distortion,
            "rate": trace.rate().mean(),
            "mutual_information": information,
            "total_correlation": correlation,
            "dimension_rate": dimensions,
        }
