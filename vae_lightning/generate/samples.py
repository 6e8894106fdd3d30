"""Images from nothing."""

from __future__ import annotations

import math

import torch

from vae_lightning.generate.asked import Asked, Made


class Samples:
    """`n` draws of the sampler, decoded; of a conditional model of one label, or of all of them in turn."""

    def __call__(self, asked: Asked) -> Made:
        classes = asked.trained.model.n_context
        y = torch.arange(asked.n) % max(1, classes)
        y = y if asked.label is None else torch.full_like(y, asked.label)
        c = asked.context(y)
        z = asked.sampler(asked.trained, c)
        images = asked.decode(z, c)
        by_label = asked.label is None and 1 < classes <= 20
        columns = classes if by_label else math.ceil(math.sqrt(asked.n))
        numbers = {"labels": y} if classes else {}
        name = type(asked.sampler).__module__.rpartition(".")[2]
        note = "a column for each label" if by_label else ""
        return Made(f"samples_{name}", images, z, columns, images, numbers=numbers, note=note)
