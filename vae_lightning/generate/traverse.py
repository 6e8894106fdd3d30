"""What a single latent does."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_lightning.errors import ConfigError
from vae_lightning.generate.asked import Asked, Made
from vae_lightning.picture.path import order
from vae_lightning.picture.subject import Subject
from vae_lightning.schema import Count, NonNegativeInt, Positive
from vae_lightning.variable import Variable
from vae_lightning.walk import traversal

IMAGES = 2000  # test images that the order of the variables and their spread are taken from


class Traverse:
    """The latent of an image, with one of its variables after the other over values that occur; the others stay.

    Numbers go around their mean over draws of q(z | x) for the test images, categories from the first to the last.

    Args:
        steps: values of a variable.
        span: numbers reach so many standard deviations to both sides.
        dims: how many variables, those with the highest rate first, or which.
    """

    def __init__(self, steps: Count = 10, span: Positive = 3.0, dims: Count | list[NonNegativeInt] = 10) -> None:
        self.steps, self.span, self.dims = steps, span, dims

    def __call__(self, asked: Asked) -> Made:
        subject = Subject(asked.trained.model, *asked.trained.first("test", IMAGES))
        if subject.space == "codes":
            posterior = asked.trained.choices["posterior"]
            raise ConfigError(f"what=traverse: posterior={posterior} has codes, and no way from one to the next")
        given = asked.chosen(1)
        if len(given.x) != 1:
            raise ConfigError("what=traverse: say one image, images=[0] or files=[a.png]")
        found = subject.encoded
        ranked = [i for i, _ in order(subject)]
        dims = ranked[: self.dims] if isinstance(self.dims, int) else self.dims
        if wrong := [d for d in dims if d >= len(ranked)]:
            raise ConfigError(f"dims={wrong}: there are {len(ranked)} latents, 0 to {len(ranked) - 1}")
        draws = found.draw.flatten(1)
        rows = [self._way(given.z[0], found.variables[d], draws[:, found.variables[d].first]) for d in dims]
        z = subject.onto(torch.stack(rows, 1))  # (T, K, *latent)
        images = asked.film(z, given.c_made.expand(*z.shape[:2], -1))
        frames = [*images, *images.flip(0)[1:-1]]  # and back again
        flat = images.transpose(0, 1).flatten(0, 1)
        numbers = {"dims": torch.tensor(dims), "test_images": given.number, "labels": given.y, "originals": given.x}
        if found.rates is not None:
            numbers["rates"] = found.rates.mean(0)[dims]
        note = f"a row for each latent, from the top: {', '.join(map(str, dims))}"
        return Made("traverse", flat, z.transpose(0, 1).flatten(0, 1), self.steps, flat, frames, numbers, note)

    def _way(self, z: Tensor, variable: Variable, draws: Tensor) -> Tensor:
        """z (*latent) with other values of one variable, (T, *latent)."""
        if variable.size == 1:
            offsets = torch.linspace(-self.span, self.span, self.steps).to(draws)
            return traversal(z, variable.first, draws.mean() + draws.std(correction=0) * offsets)
        categories = torch.linspace(0, variable.size - 1, self.steps).round().long()
        found = z.flatten().repeat(self.steps, 1)
        found[:, variable.first : variable.first + variable.size] = torch.eye(variable.size).to(z)[categories]
        return found.view(self.steps, *z.shape)
