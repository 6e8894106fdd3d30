"""A trained model together with its data: what all that judges, draws from or shows a model starts with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning import noise
from vae_lightning.build import make
from vae_lightning.check import plain
from vae_lightning.checkpoint import GROUPS, read_model, rebuild, recorded
from vae_lightning.compose import compose
from vae_lightning.context import one_hot
from vae_lightning.data.images import Images
from vae_lightning.data.pixels import binary, scaled
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.resume import BEST, find_checkpoint, run_folder
from vae_lightning.schema import NonNegativeInt, allows
from vae_lightning.stranger import inside

Split = Literal["train", "val", "test"]


class Batch(NamedTuple):
    """Images with their labels, on the device that computes."""

    x: Tensor  # (B, C, H, W); pixels lie in [0, 1]
    y: Tensor  # (B,) labels, -1 where unknown
    c: Tensor  # (B, n_context)


class Latents(NamedTuple):
    """What a posterior says of images, flat, on the CPU."""

    mean: Tensor  # (N, D); the mode where the mean is not known
    draw: Tensor  # (N, D), one draw of q(z | x)
    y: Tensor  # (N,)


class Trained:
    """The best checkpoint of a run folder, ready to use, and the data that it was trained on.

    Args:
        path: a run folder or a checkpoint in it.
        root: where the files of the data are, if not where they were in training.
        device: `auto` is a GPU where there is one.

    Raises:
        ConfigError: there is no checkpoint, or no such device.
        UserError: it is damaged, or its options do not exist here.
    """

    def __init__(self, path: str | Path, root: str | None = None, device: str = "auto") -> None:
        self.checkpoint = find_checkpoint(path, BEST)
        self.folder = inside(run_folder(self.checkpoint))
        self.device = device_of(device)
        self.record, weights = read_model(self.checkpoint)
        self.model = rebuild(self.record, weights, path).to(self.device)
        self._known = recorded(self.record, (*GROUPS, "data"), path)
        own = {group: plain(self._known[group]) for group in (*GROUPS, "data")}  # names of code are those of conf/
        self.config: dict[str, Any] = {**self.record["config"], **own}  # of the training, as plain values
        self.choices: dict[str, str] = self.record["choices"]
        self._root = root
        texts = all(isinstance(text, str) for choice in self.choices.items() for text in choice)
        if not texts or not allows(NonNegativeInt, self.config.get("seed")):
            raise UserError(f"{path}: does not say which data it was trained on")

    @cached_property
    def data(self) -> Images:
        """The data set, split as it was in training."""
        config = self._known.data.copy()
        own = compose([f"data={self.choices['data']}"])[0].data
        root = self._root or next((r for r in (self.config["data"]["root"],) if r and _is_folder(r)), own.root)
        if "mirror" in config.source:
            config.source.mirror = own.source.mirror
        config.root = root
        images: Images = make(config, seed=self.config["seed"], minibatches_per_step=1, accumulate_grad_batches=1)
        facts, classes = self.record["facts"], self.model.n_context
        if list(images.shape) != list(facts["shape"]) or classes not in (0, images.n_classes):
            shapes = ("x".join(map(str, shape)) for shape in (facts["shape"], images.shape))
            raise UserError(
                f"{self.folder}: its model is for images of {next(shapes)}, and its data are {next(shapes)}"
            )
        return images

    def images(self, split: Split, n: int | None = None) -> tuple[Tensor, Tensor]:
        """The first n images of a split, as they are kept (N, C, H, W), and their labels (N,).

        What is drawn anew at every presentation in training is drawn once here.
        """
        x, y = (part[:n] for part in getattr(self.data, split))
        dynamic = split == "train" and self.data.binarize == "dynamic"
        return (binary(x, "static", noise.TRAIN) if dynamic else x), y

    def batches(self, split: Split, n: int | None = None, size: int = 512) -> Iterator[Batch]:
        """The first n images of a split, `size` at a time."""
        images, labels = self.images(split, n)
        for x, y in zip(images.split(size), labels.split(size), strict=True):
            yield self.batch(x, y)

    def first(self, split: Split, n: int | None = None) -> Batch:
        """The first n images of a split, or all, together."""
        return self.batch(*self.images(split, n))

    def batch(self, x: Tensor, y: Tensor) -> Batch:
        """Images as they are kept, and labels, as the model takes them."""
        y = y.to(self.device)
        return Batch(scaled(x.to(self.device)), y, one_hot(y, self.model.n_context))

    @torch.no_grad()
    def latents(self, split: Split, n: int | None = None) -> Latents:
        """q(z | x) of the first n images of a split; of the top layer, if there are several."""
        found = []
        for x, y, c in self.batches(split, n):
            q = self.model.encode(x, c)
            found.append((centre(q).flatten(1).cpu(), q.sample().flatten(1).cpu(), y.cpu()))
        return Latents(*(torch.cat(part) for part in zip(*found, strict=True)))


def centre(q: Distribution) -> Tensor:
    """The mean of q, or its mode where the mean is not known (flows): batch and event shape."""
    try:
        return q.mean
    except NotImplementedError:
        return q.mode


def device_of(name: str) -> torch.device:
    """The device of this name.

    >>> device_of("cpu")
    device(type='cpu')

    Raises:
        ConfigError: there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name}: this machine has none; say device=cpu") from error
    return device


def _is_folder(path: str) -> bool:
    return os.path.isdir(os.path.expanduser(path))
