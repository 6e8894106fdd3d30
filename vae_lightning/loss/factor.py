"""A critic estimates the total correlation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vae_lightning.gather import gather, mine, shared
from vae_lightning.loss.critic import dense_critic, group, tell_apart
from vae_lightning.loss.elbo import parts
from vae_lightning.needs import ONE_LATENT, PLAIN_DRAWS, RATE
from vae_lightning.schema import Count, Fraction, NonNegative, Positive
from vae_lightning.trace import Trace, constant

NEEDS = {
    **RATE,
    **ONE_LATENT,
    **PLAIN_DRAWS,
    "posterior:space": (["real"], "it exchanges coordinates between images: say posterior=normal or loss=elbo"),
}


class Factor(nn.Module):
    """FactorVAE: distortion + beta rate + gamma TC. Kim and Mnih (2018), arXiv:1802.05983, eq. 2 and 3.

    The critic learns to tell draws of q(z) from draws whose coordinates come from different images; its logit
    estimates log q(z) / prod_d q(z_d). It is trained in the same step, with a learning rate of its own, and on the
    draws of the same minibatch.

    Args:
        latent_shape: (D,).
        beta: weight of the rate.
        gamma: weight of the total correlation.
        critic_hidden: widths of the critic's layers.
        critic_lr: its learning rate.
        critic_betas: its betas, for the Adam family.

    >>> len(Factor(latent_shape=(4,)).parameter_groups()[0]["params"])
    12
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        beta: NonNegative = 1.0,
        gamma: NonNegative = 10.0,
        critic_hidden: list[Count] = [256, 256, 256, 256, 256],  # noqa: B006
        critic_lr: Positive = 1e-4,
        critic_betas: tuple[Fraction, Fraction] = (0.5, 0.9),
    ) -> None:
        super().__init__()
        self.beta, self.gamma = beta, gamma
        self.critic = dense_critic(math.prod(latent_shape), critic_hidden)
        self.critic_lr, self.critic_betas = critic_lr, critic_betas

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters that have a learning rate of their own."""
        return group(self.critic, self.critic_lr, self.critic_betas)

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        terms = parts(trace)
        z = trace.latents[0].z[0]
        with constant(self.critic):
            correlation = self.critic(z).mean()
        exchanged = mine(exchange(gather(z.detach())))
        critic = tell_apart(self.critic(z.detach()), self.critic(exchanged))
        loss = terms["distortion"] + self.beta * terms["rate"] + self.gamma * correlation + critic
        return loss, {**terms, "total_correlation": correlation, "critic": critic}


def exchange(z: Tensor) -> Tensor:
    """z (B, D) with each column in an order of its own: draws of prod_d q(z_d). Algorithm 1 of the paper."""
    return z.gather(0, shared(torch.rand_like(z)).argsort(0))
