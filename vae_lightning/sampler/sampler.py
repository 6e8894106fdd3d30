"""What a sampler is, and what those have in common that are fitted to the latents of the training images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.check import read
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.trained import Trained


class Sampler(Protocol):
    """A trained model to latents."""

    def __call__(self, trained: Trained, c: Tensor) -> Tensor:
        """Contexts c (n, n_context), all zeros wide if the model has none -> z (n, *latent), of the top layer.

        Raises:
            UserError: this model's latents are not of the kind that the sampler is for.
        """


def space(trained: Trained) -> str:
    """What kind of thing z is: `real`, `sphere`, `one_hot`, `joint` or `codes`, as its posterior says."""
    return str(read(trained.config["posterior"]["_target_"]).traits.get("space", "real"))


def from_vectors(
    name: str, trained: Trained, c: Tensor, images: int | None, fit: Callable[[Tensor], Distribution]
) -> Tensor:
    """Draws of what `fit` makes of latents (N, D), each a draw of q(z | x); put back onto the sphere if z lies on one.

    Args:
        name: of the sampler, for the error.
        trained: the model.
        c: contexts (n, n_context).
        images: of the training set; None: all.
        fit: latents (N, D) to a distribution, event (D,).

    Returns:
        z (n, *latent).

    Raises:
        ConfigError: the latents are no vectors of numbers.
    """
    kind = space(trained)
    if kind not in ("real", "sphere"):
        advice = "say sampler=codes" if kind == "codes" else "say sampler=prior"
        raise ConfigError(
            f"sampler={name} is for vectors of numbers, and posterior={trained.choices['posterior']} has none: {advice}"
        )
    latents = trained.latents("train", images)
    z = by_label(c, latents.draw.to(c.device, torch.get_default_dtype()), latents.y.to(c.device), fit)
    if kind == "sphere":
        z = F.normalize(z, dim=-1)
    return z.reshape(len(c), *trained.model.latent_shape)


def by_label(c: Tensor, data: Tensor, y: Tensor, fit: Callable[[Tensor], Distribution]) -> Tensor:
    """Draws of what `fit` makes of `data` (N, ...): (n, *event); for a conditional model it is fitted to each label.

    >>> from torch.distributions import Normal
    >>> c, data = torch.eye(2)[[1, 0, 1]], torch.tensor([1.0, 1.0, 9.0])
    >>> by_label(c, data, torch.tensor([0, 0, 1]), lambda some: Normal(some.mean(), 1e-9)).round()
    tensor([9., 1., 9.])

    Args:
        c: contexts (n, n_context), one-hot.
        data: what is fitted.
        y: its labels (N,).

    Raises:
        UserError: a label that is asked for has no data.
    """
    if not c.shape[-1]:
        return fit(data).sample(torch.Size((len(c),)))
    wanted = c.argmax(-1)
    rows, parts = [], []
    for label in wanted.unique().tolist():
        mine = data[y == label]
        if not len(mine):
            raise UserError(f"label={label}: no training image has this label; take another, or sampler=prior")
        rows.append((wanted == label).nonzero().flatten())
        parts.append(fit(mine).sample(torch.Size((len(rows[-1]),))))
    return torch.cat(parts)[torch.cat(rows).argsort()]
