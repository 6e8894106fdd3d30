"""A critic of images measures the distortion, and tells real images from decoded ones."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vae_lightning.loss.critic import group
from vae_lightning.loss.elbo import parts
from vae_lightning.model.vae import VAE
from vae_lightning.needs import ONE_LATENT, PIXELS, PLAIN_DRAWS, RATE
from vae_lightning.schema import Count, Fraction, NonNegative, Positive
from vae_lightning.trace import constant, drawn

NEEDS = {**RATE, **ONE_LATENT, **PLAIN_DRAWS, **PIXELS}


class ImageCritic(nn.Module):
    """Images (B, C, H, W) -> features (B, F) and logits (B, 1)."""

    def __init__(self, shape: tuple[int, ...], channels: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        h, w = shape[-2:]
        for before, after in pairwise([shape[0], *channels]):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.2)]
            h, w = math.ceil(h / 2), math.ceil(w / 2)
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.out = nn.Linear(channels[-1] * h * w, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return features, self.out(features)


class VAEGAN(nn.Module):
    """VAE/GAN. Larsen et al. (2016), arXiv:1512.09300, eq. 7-8 and algorithm 1.

    The encoder pays beta rate + the squared distance of images and reconstructions in the critic's features (a normal
    density with variance 1); the decoder pays gamma times that distance, and for decoded images that are found out.
    Both also pay `pixels` times the distortion: the paper's 0 leaves small networks nothing to hold on to, and the rate
    goes to 0. All take their step together; the critic has a learning rate of its own.

    Args:
        shape: (C, H, W).
        beta: weight of the rate.
        pixels: weight of the distortion; 0 in the paper.
        gamma: the decoder's weight of the distance in features.
        critic_channels: of its convolutions, each of which halves the image.
        critic_lr: its learning rate.
        critic_betas: its betas, for the Adam family.

    >>> len(VAEGAN(shape=(1, 28, 28)).parameter_groups()[0]["params"])
    8
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        beta: NonNegative = 1.0,
        pixels: NonNegative = 1.0,
        gamma: NonNegative = 1.0,
        critic_channels: list[Count] = [32, 64, 128],  # noqa: B006
        critic_lr: Positive = 2e-4,
        critic_betas: tuple[Fraction, Fraction] = (0.5, 0.9),
    ) -> None:
        super().__init__()
        self.beta, self.pixels, self.gamma = beta, pixels, gamma
        self.critic = ImageCritic(shape, critic_channels)
        self.critic_lr, self.critic_betas = critic_lr, critic_betas

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters that have a learning rate of their own."""
        return group(self.critic, self.critic_lr, self.critic_betas)

    def forward(self, model: VAE, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace = model(x, c)
        terms = parts(trace)
        (latent,) = trace.latents
        z = latent.z[0].detach()
        decoded = model.generate(z, c).mean, model.generate(drawn(latent.p, len(x)), c).mean
        with constant(self.critic):
            real = self.critic(x)[0]
            with constant(*model.generative()):
                seen = model.generate(latent.z[0], c).mean
            for_encoder = _distance(real, self.critic(seen)[0])
            features, logits = self.critic(decoded[0])
            for_decoder = _distance(real, features)
            found_out = (F.softplus(-logits) + F.softplus(-self.critic(decoded[1])[1])).mean()
        fake = F.softplus(self.critic(decoded[0].detach())[1]) + F.softplus(self.critic(decoded[1].detach())[1])
        critic = F.softplus(-self.critic(x)[1]).mean() + fake.mean() / 2
        cost = self.beta * terms["rate"] + self.pixels * terms["distortion"]
        loss = cost + for_encoder + self.gamma * for_decoder + found_out + critic
        return loss, {**terms, "feature_distortion": for_encoder, "fooling": found_out, "critic": critic}


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared distance of features (B, F), in nats per image."""
    return (a - b).square().sum(1).mean() / 2
