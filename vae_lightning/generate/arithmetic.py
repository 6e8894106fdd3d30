"""Sums of latents."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_lightning.errors import ConfigError, UserError
from vae_lightning.generate.asked import Asked, Made
from vae_lightning.sampler.sampler import space
from vae_lightning.schema import NonNegativeInt
from vae_lightning.trained import Latents


class Arithmetic:
    """a - b + c of the latents of three images; or of each image and the mean latents of two labels.

    Radford et al. (2016), arXiv:1511.06434, section 6.3.2.

    Args:
        plus: the label whose mean is c, over the training images.
        minus: the label whose mean is b.
    """

    def __init__(self, plus: NonNegativeInt | None = None, minus: NonNegativeInt | None = None) -> None:
        self.plus, self.minus = plus, minus

    def __call__(self, asked: Asked) -> Made:
        if space(asked.trained) != "real":
            posterior = asked.trained.choices["posterior"]
            raise ConfigError(f"what=arithmetic: sums of latents of posterior={posterior} are no latents")
        if self.plus is None and self.minus is None:
            return self._of_three(asked)
        if self.plus is None or self.minus is None:
            raise ConfigError("what=arithmetic: say both labels, minus=… and plus=…, or none and three images")
        latents = asked.trained.latents("train")
        shift = (mean(latents, self.plus, "plus") - mean(latents, self.minus, "minus")).to(asked.trained.device)
        given = asked.chosen(8)
        z = given.z + shift.view(asked.trained.model.latent_shape)
        images = asked.decode(z, given.c_made)
        rows = torch.cat([given.x, asked.decode(given.z, given.c_made), images])
        numbers = {"originals": given.x, "test_images": given.number, "labels": given.y}
        note = f"rows: images, their reconstructions, and these minus the mean of {self.minus} plus that of {self.plus}"
        return Made("arithmetic", images, z, len(images), rows, numbers=numbers, note=note)

    def _of_three(self, asked: Asked) -> Made:
        if len(asked.images or []) + len(asked.files or []) != 3:
            raise ConfigError(
                "what=arithmetic: say three images for a - b + c, images=[0,1,2] or files=[a.png,b.png,c.png], "
                "or labels, minus=… plus=…"
            )
        given = asked.chosen(3)
        a, b, c = given.z
        z = (a - b + c)[None]
        images = asked.decode(z, given.c_made[:1])
        row = torch.cat([given.x, images])
        numbers = {"originals": given.x, "test_images": given.number, "labels": given.y}
        return Made("arithmetic", images, z, len(row), row, numbers=numbers, note="a, b, c, and a - b + c")


def mean(latents: Latents, label: int, key: str) -> Tensor:
    """The mean latent (D,) of the images with a label.

    Raises:
        UserError: there are none; `key` says where the label was given.
    """
    mine = latents.mean[latents.y == label]
    if not len(mine):
        known = ", ".join(map(str, latents.y[latents.y >= 0].unique().tolist()))
        raise UserError(f"{key}={label}: no training image has this label; the labels are {known or 'not known'}")
    return mine.mean(0)
