"""A critic holds the aggregate posterior against the prior."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vae_lightning.loss.critic import dense_critic, group, tell_apart
from vae_lightning.loss.elbo import parts
from vae_lightning.needs import FIXED_PRIOR, ONE_LATENT, PLAIN_DRAWS, REAL_OR_SPHERE
from vae_lightning.schema import Count, Fraction, NonNegative, Positive
from vae_lightning.trace import Trace, constant, drawn

NEEDS = {**ONE_LATENT, **PLAIN_DRAWS, **REAL_OR_SPHERE, **FIXED_PRIOR}


class AAE(nn.Module):
    """The adversarial autoencoder. Makhzani et al. (2016), arXiv:1511.05644, section 2.

    The critic learns to tell draws of the prior from draws of q(z), and the encoder to pass for the prior (the
    non-saturating form). Both take their step together; the critic has a learning rate of its own.

    Args:
        latent_shape: (D,).
        scale: weight of what the encoder pays for being found out.
        critic_hidden: widths of the critic's layers.
        critic_lr: its learning rate.
        critic_betas: its betas, for the Adam family.

    >>> len(AAE(latent_shape=(4,)).parameter_groups()[0]["params"])
    6
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        scale: NonNegative = 10.0,
        critic_hidden: list[Count] = [256, 256],  # noqa: B006
        critic_lr: Positive = 2e-4,
        critic_betas: tuple[Fraction, Fraction] = (0.5, 0.9),
    ) -> None:
        super().__init__()
        self.scale = scale
        self.critic = dense_critic(math.prod(latent_shape), critic_hidden)
        self.critic_lr, self.critic_betas = critic_lr, critic_betas

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters that have a learning rate of their own."""
        return group(self.critic, self.critic_lr, self.critic_betas)

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c)
        terms = parts(trace)
        (latent,) = trace.latents
        z = latent.z[0]
        with constant(self.critic):
            fooling = F.softplus(-self.critic(z)).mean()
        critic = tell_apart(self.critic(drawn(latent.p, len(z))), self.critic(z.detach()))
        return terms["distortion"] + self.scale * fooling + critic, {**terms, "fooling": fooling, "critic": critic}
