"""Images that a model makes: reconstructions, samples, the spread of a posterior, what a prior has learned."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_lightning.picture.canvas import Sheet, room
from vae_lightning.picture.subject import Subject


@torch.no_grad()
def reconstructions(subject: Subject) -> Sheet | None:
    """Rows of images, and below each its reconstruction, at the mode of q(z | x)."""
    if not subject.is_image:
        return None
    names = ["original", "reconstruction"]
    columns, rows = room(subject.x, 12, 8, names)
    x, c = (part[: columns * max(1, rows // 2)] for part in (subject.x, subject.c))
    columns = min(columns, len(x))
    x, c = (part[: len(part) // columns * columns] for part in (x, c))
    subject.reseed()
    pairs = torch.stack([x, subject.model.reconstruct(x, c)]).unflatten(1, (-1, columns))
    images = subject.shown(pairs.transpose(0, 1).flatten(0, 2))
    return Sheet(images, columns, "Images and their reconstructions", names * (len(images) // columns // 2))


@torch.no_grad()
def samples(subject: Subject) -> Sheet | None:
    """Means of p(x | z) for draws of z from the prior; where labels are known to the model, a column each."""
    if not subject.is_image:
        return None
    classes = subject.c.shape[1]
    columns, rows = room(subject.x, min(classes, 12) or 12, 8)
    columns = min(columns, classes or columns)
    c = torch.eye(classes).to(subject.c)[:columns] if classes else subject.c[:1]
    subject.reseed()
    images = subject.model.sample(columns * rows, c.repeat(columns * rows // len(c), 1))
    heads = [str(label) for label in range(columns)] if classes else []
    title = "Samples: E[x | z] with z from the prior" + (", a column for each label" if classes else "")
    return Sheet(subject.shown(images), columns, title, heads=heads)


@torch.no_grad()
def spread(subject: Subject) -> Sheet | None:
    """Images, and E[x | z] for several draws of z from the posterior of each."""
    if not subject.is_image or not subject.traits.get("rate", True):
        return None  # without noise all draws are alike
    columns, rows = room(subject.x, 12, 6)
    if columns < 2:
        return None
    x, c = subject.x[:rows], subject.c[:rows]
    subject.reseed()
    trace = subject.model(x, c)
    if len(trace.latents) > 1:  # the draws of all layers belong together
        means = torch.cat([subject.model(x, c).px.mean for _ in range(columns - 1)])
    else:
        z = subject.model.encode(x, c).sample((columns - 1,))
        means = torch.stack([subject.model.decode(each, c).mean for each in z])
    images = torch.cat([x[None], means]).transpose(0, 1)
    title = "Spread of the posterior: E[x | z] for several z from q(z | x) of the image at the left"
    heads = ["original", *[""] * (columns - 1)]
    return Sheet(subject.shown(images.flatten(0, 1)), columns, title, heads=heads)


@torch.no_grad()
def pseudo_inputs(subject: Subject) -> Sheet | None:
    """The images that a prior has learned, if it has."""
    inputs: Tensor | None = getattr(subject.model.prior, "inputs", None)
    if inputs is None or not subject.is_image:
        return None
    columns, rows = room(subject.x, 12, 8)
    n = min(len(inputs), columns * rows)
    title = f"{n} of the {len(inputs)} pseudo-inputs of the prior"
    return Sheet(subject.shown(inputs[:n].clamp(0, 1)), min(columns, n), title)
