"""What comes back of an image."""

from __future__ import annotations

import torch

from vae_lightning.generate.asked import Asked, Made

PAIRS = 8  # in a row


class Reconstruct:
    """Images, each with what the model makes of the mode of its posterior to its right.

    A `label` is that of the reconstruction: with another than its own, the image in its style.
    """

    def __call__(self, asked: Asked) -> Made:
        given = asked.chosen(asked.n)
        plain = not asked.draw and torch.equal(given.c, given.c_made)
        reconstruct = asked.trained.model.reconstruct  # of several layers it knows more than the top one
        images = reconstruct(given.x, given.c) if plain else asked.decode(given.z, given.c_made)
        pairs = torch.stack([given.x, images], 1).flatten(0, 1)
        numbers = {"originals": given.x, "test_images": given.number, "labels": given.y}
        columns = 2 * min(PAIRS, len(images))
        note = "pairs: an image, and to its right its reconstruction"
        return Made("reconstruct", images, given.z, columns, pairs, numbers=numbers, note=note)
