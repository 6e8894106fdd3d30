"""The way from an image to the next."""

from __future__ import annotations

from typing import Literal

import torch

from vae_lightning.errors import ConfigError
from vae_lightning.generate.asked import Asked, Made
from vae_lightning.sampler.sampler import space
from vae_lightning.schema import Count
from vae_lightning.walk import linear, spherical

# Between two one-hot vectors lie the relaxed ones that were seen in training; between two codes lies nothing.
PATHS = {"real": ["linear", "spherical"], "sphere": ["spherical"], "one_hot": ["linear"], "joint": ["linear"]}


class Interpolate:
    """Images on the way from the mode of each image's posterior to that of the next; without images, of the first five.

    Args:
        steps: images a way, both ends included.
        path: `linear`, or `spherical`: the direction turns evenly, White (2016), arXiv:1609.04468.
    """

    def __init__(self, steps: Count = 10, path: Literal["linear", "spherical"] = "linear") -> None:
        self.steps, self.path = steps, path
        self.walk = {"linear": linear, "spherical": spherical}[path]

    def __call__(self, asked: Asked) -> Made:
        kind, posterior = space(asked.trained), asked.trained.choices["posterior"]
        if kind not in PATHS:
            raise ConfigError(f"what=interpolate: between two latents of posterior={posterior} there are no others")
        if self.path not in PATHS[kind]:
            raise ConfigError(
                f"path={self.path}: it leaves the latents of posterior={posterior}; say path={PATHS[kind][0]}"
            )
        given = asked.chosen(5)
        if len(given.x) < 2:
            raise ConfigError("what=interpolate: say at least two images, images=[0,1] or files=[a.png,b.png]")
        ways = range(len(given.x) - 1)
        z = torch.stack([self.walk(given.z[i], given.z[i + 1], self.steps) for i in ways], 1)
        c = torch.stack([linear(given.c_made[i], given.c_made[i + 1], self.steps) for i in ways], 1)
        images = asked.film(z, c).transpose(0, 1)  # (ways, steps, C, H, W)
        there = [image for way in images for image in way[:-1]] + [images[-1, -1]]
        frames = [image[None] for image in there + there[-2:0:-1]]  # and back again
        numbers = {"test_images": given.number, "labels": given.y, "originals": given.x}
        flat = images.flatten(0, 1)
        note = "a row for the way from each image to the next"
        return Made(
            f"interpolate_{self.path}", flat, z.transpose(0, 1).flatten(0, 1), self.steps, flat, frames, numbers, note
        )
