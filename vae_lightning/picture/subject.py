"""What is pictured: a trained model, and the images to show it by."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_lightning import noise
from vae_lightning.model.vae import VAE
from vae_lightning.trained import centre
from vae_lightning.variable import Variable, rates, variables

CHUNK = 250  # images that are encoded at once


class Encoded(NamedTuple):
    """q(z | x) of N images; of the top layer, if there are several."""

    mean: Tensor  # (N, *latent); the mode where the mean is not known
    draw: Tensor  # (N, *latent), one draw each
    variables: list[Variable]  # V of them
    rates: Tensor | None  # (N, V) nats, where each variable has one
    codes: Tensor | None  # (N, P L) indices of codes, where there are any


class Subject:
    """A model and images for it. All draws are the same whenever they are made.

    Args:
        model: on its device.
        x: images (N, C, H, W), as the model takes them.
        y: labels (N,), -1 where unknown.
        c: context (N, n_context).
        seed: of all draws.

    Example:
        trained = Trained("outputs/2026-01-31/12-00-00_000000")
        subject = Subject(trained.model, *trained.batch(*trained.images("test", 2000)))
        traversals(subject).figure().savefig("traversals.png")
    """

    def __init__(self, model: VAE, x: Tensor, y: Tensor, c: Tensor, seed: int = 0) -> None:
        like = next(model.parameters())
        self.model, self.x, self.y, self.c, self.seed = model, x.to(like), y, c.to(like), seed

    @property
    def traits(self) -> Mapping[str, Any]:
        """What the file of the posterior says of it."""
        return getattr(sys.modules[type(self.model.infer.posterior).__module__], "TRAITS", {})

    @property
    def space(self) -> str:
        """Where z lies: real, sphere, one_hot, joint or codes."""
        return str(self.traits.get("space", "real"))

    @property
    def is_image(self) -> bool:
        """Whether x can be looked at: a vector cannot."""
        return min(self.x.shape[-2:]) > 1

    def reseed(self) -> None:
        """From here on the same draws as after any other call."""
        noise.reseed(self.x.device, self.seed, noise.PICTURES, 0)

    @cached_property
    @torch.no_grad()
    def encoded(self) -> Encoded:
        """q(z | x) of all images."""
        self.reseed()
        found, made_of = [], None
        for x, c in zip(self.x.split(CHUNK), self.c.split(CHUNK), strict=True):
            q = self.model.encode(x, c)
            found.append((centre(q), q.sample(), rates(q, self.model.prior(c)), getattr(q, "index", None)))
            made_of = made_of or variables(q)
        assert made_of is not None
        mean, draw, each, codes = (_cat(part) for part in zip(*found, strict=True))
        assert mean is not None
        assert draw is not None
        return Encoded(self.onto(mean), draw, made_of, each, codes)

    def onto(self, z: Tensor) -> Tensor:
        """z (..., *latent) back onto the sphere, where there is one."""
        return F.normalize(z, dim=-1) if self.space == "sphere" else z

    @torch.no_grad()
    def decode(self, z: Tensor, c: Tensor) -> Tensor:
        """E[x | z] to look at: z (A, B, *latent) and c (B, n_context) to (A, B, C, H, W) in [0, 1].

        Layers below the top draw the same noise for all A, so that only z makes a difference.
        """
        found = []
        for each in z:
            self.reseed()
            found.append(self.model.decode(each, c).mean)
        return self.shown(torch.stack(found))

    def shown(self, images: Tensor) -> Tensor:
        """Images as they can be looked at, in [0, 1], on the CPU; numbers that are no pixels are scaled."""
        low, high = min(self.x.min().item(), 0.0), max(self.x.max().item(), 1.0)
        return ((images.detach() - low) / (high - low)).clamp(0, 1).cpu()


def _cat(parts: tuple[Any, ...]) -> Tensor | None:
    return None if parts[0] is None else torch.cat(parts)
