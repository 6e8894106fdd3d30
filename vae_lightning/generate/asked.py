"""What the command line asks for, whatever is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vae_lightning.check import read
from vae_lightning.context import one_hot
from vae_lightning.data.own import own_images
from vae_lightning.errors import ConfigError
from vae_lightning.sampler.sampler import Sampler
from vae_lightning.trained import Trained

AT_ONCE = 500  # images that are decoded together


@dataclass(frozen=True)
class Made:
    """Images, and how they are shown."""

    name: str  # of the files
    images: Tensor  # (N, C, H, W)
    z: Tensor  # (N, *latent)
    columns: int
    grid: Tensor  # (M, C, H, W), shown as PNG in so many columns
    frames: Sequence[Tensor] = ()  # (K, C, H, W) each, shown together as GIF
    numbers: dict[str, Any] | None = None  # whatever else belongs to it
    note: str = ""  # for the console: what is where in the picture


class What(Protocol):
    """What is asked of a model to what it makes."""

    def __call__(self, asked: Asked) -> Made:
        """Raises UserError where that has no meaning for the model."""


class Chosen(NamedTuple):
    """Images that something is made of, B in all, on the device that computes."""

    x: Tensor  # (B, C, H, W)
    z: Tensor  # (B, *latent), the modes of q(z | x)
    c: Tensor  # (B, n_context): of their own labels
    c_made: Tensor  # likewise: of what is made of them
    number: Tensor  # (B,) among the test images; -1 for own files
    y: Tensor  # (B,) own labels; -1 where unknown


@dataclass(frozen=True)
class Asked:
    """A trained model, and what is asked of it on the command line; see `generate`."""

    trained: Trained
    sampler: Sampler
    n: int = 64
    images: list[int] | None = None
    files: list[str] | None = None
    invert: bool = False
    label: int | None = None
    draw: bool = False

    def __post_init__(self) -> None:
        classes = self.trained.model.n_context
        if self.label is not None and not classes:
            raise ConfigError(
                f"label={self.label}: this model does not know labels; leave it out, or train with condition=label"
            )
        if self.label is not None and self.label >= classes:
            raise ConfigError(f"label={self.label}: the labels are 0 to {classes - 1}")
        if self.draw and not self.trained.model.likelihood.density:
            raise ConfigError(
                f"draw=true: likelihood={self.trained.choices['likelihood']} is an energy, from which nothing can be "
                "drawn; leave it out"
            )

    def context(self, y: Tensor) -> Tensor:
        """The context (B, n_context) of what is made: of `label`, or of labels y (B,) if it is not given."""
        y = y if self.label is None else torch.full_like(y, self.label)
        return one_hot(y.to(self.trained.device), self.trained.model.n_context)

    @torch.no_grad()
    def chosen(self, otherwise: int) -> Chosen:
        """The images that were named, test images before files, or the first so many test images.

        Raises:
            ConfigError: no such image, file or label.
            UserError: a file cannot be read.
        """
        images = list(range(otherwise)) if self.images is None and self.files is None else self.images or []
        batches, index = [], images + [-1] * len(self.files or [])
        if images:
            kept, labels = self.trained.images("test")
            images = images if self.images or self.files else images[: len(kept)]
            if wrong := [i for i in images if i >= len(kept)]:
                raise ConfigError(f"images={wrong}: there are {len(kept)} test images, 0 to {len(kept) - 1}")
            batches.append(self.trained.batch(kept[images], labels[images]))
        if self.files:
            batches.append(self._own(self.files))
        x, y, c = (torch.cat(parts) for parts in zip(*batches, strict=True))
        z = torch.cat([self.trained.model.encode(a, b).mode for a, b in zip(*_portions(x, c), strict=True)])
        return Chosen(x, z, c, self.context(y), torch.tensor(index[: len(x)]), y)

    def _own(self, files: list[str]) -> Any:
        trained = self.trained
        if trained.model.n_context and self.label is None:
            raise ConfigError("files: this model knows labels; say which these are, label=…")
        if values(trained) != "pixels":
            raise ConfigError(f"files: the data of this run are no images, but {trained.choices['data']}")
        shape, binarize = trained.model.likelihood.shape, trained.config["data"]["binarize"]
        y = -1 if self.label is None else self.label
        return trained.batch(own_images(files, shape, binarize, self.invert), torch.full((len(files),), y))

    @torch.no_grad()
    def decode(self, z: Tensor, c: Tensor) -> Tensor:
        """z (N, *latent) and c (N, n_context) -> images (N, C, H, W)."""
        p = (self.trained.model.decode(a, b) for a, b in zip(*_portions(z, c), strict=True))
        return torch.cat([each.sample() if self.draw else each.mean for each in p])

    def film(self, z: Tensor, c: Tensor) -> Tensor:
        """z (T, K, *latent) and c (T, K, n_context) -> images (T, K, C, H, W), whatever is drawn alike at each time.

        Draws are of pixels, and of the layers below z if there are some: nothing but z moves.
        """
        seed, frames = int(torch.randint(2**31, ())), []
        for now, context in zip(z, c, strict=True):
            torch.manual_seed(seed)
            frames.append(self.decode(now, context))
        return torch.stack(frames)


def values(trained: Trained) -> str:
    """What the numbers of the data are: `pixels` or `real`."""
    return str(read(trained.config["data"]["source"]["_target_"]).traits.get("values", "pixels"))


def _portions(*tensors: Tensor) -> list[Sequence[Tensor]]:
    return [tensor.split(AT_ONCE) for tensor in tensors]
