"""Minibatches from images in memory: no workers, no per-image Python, and an order that can be resumed anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_lightning import noise


@dataclass(frozen=True)
class Minibatch:
    """The images of one minibatch that this process looks at."""

    x: Tensor  # (B, C, H, W) floats in [0, 1]
    y: Tensor  # (B,) labels
    index: int  # the number of the minibatch since the start of the run
    epoch: float  # how many epochs lie before it
    size: int  # B; 0 if the images are only here to keep another process company
    weight: float  # of its mean loss in the gradient, so that every image counts alike
    steps: bool  # whether the optimiser steps after it


class MemoryLoader:
    """Yields lists of `chunk` minibatches; what is in them does not depend on `chunk`.

    The order of an epoch is a function of the seed and the epoch, the noise of dynamic binarisation a function of the
    seed and the minibatch: `state_dict` holds nothing but a position.

    Args:
        images: (N, C, H, W) uint8, on the device that computes.
        labels: (N,).
        batch_size: images per minibatch, over all processes.
        shuffle: a new order each epoch; otherwise as they lie.
        dynamic: each pixel is drawn anew as 0 or 1 with its grey value as probability.
        seed: of order and noise.
        chunk: minibatches that are yielded together.
        accumulate: minibatches per step of the optimiser.
        rank, world: this process takes every `world`-th image of a minibatch.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        shuffle: bool = False,
        dynamic: bool = False,
        seed: int = 0,
        chunk: int = 1,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images, self.labels = images, labels
        self.batch_size, self.shuffle, self.dynamic, self.seed = batch_size, shuffle, dynamic, seed
        self.accumulate, self.rank, self.world = accumulate, rank, world
        self.chunk = max(1, chunk // accumulate) * accumulate  # a resumed run never starts between two gradients
        self.minibatches = math.ceil(len(images) / batch_size)
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return math.ceil(self.minibatches / self.chunk)

    batch_sampler = None

    @property
    def sampler(self) -> MemoryLoader:
        """Lightning tells the `sampler` of a loader which epoch begins."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of another epoch; where it is already there, stay."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[list[Minibatch]]:
        # A generator: the order is made when the first minibatch is asked for, after `set_epoch`.
        if self.position >= self.minibatches:
            self.position = 0
        order = self._order()
        while self.position < self.minibatches:
            first = self.position
            self.position = min(self.minibatches, (first // self.chunk + 1) * self.chunk)
            yield self._chunk(order, first, self.position)

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self.images), device=self.images.device)
        generator = noise.generator("cpu", self.seed, noise.ORDER, self.epoch)
        return torch.randperm(len(self.images), generator=generator).to(self.images.device)

    def _chunk(self, order: Tensor, first: int, last: int) -> list[Minibatch]:
        chosen = order[first * self.batch_size : last * self.batch_size]
        images, labels = self.images[chosen], self.labels[chosen]
        return [
            self._minibatch(first + i, x, y)
            for i, (x, y) in enumerate(zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True))
        ]

    def _minibatch(self, i: int, x: Tensor, y: Tensor) -> Minibatch:
        index = self.epoch * self.minibatches + i
        probability = x.to(torch.get_default_dtype()) / 255
        if self.dynamic:
            generator = noise.generator(x.device, self.seed, noise.PIXELS, index)
            uniform = torch.rand(x.shape, device=x.device, generator=generator)
            probability = (uniform < probability).to(probability.dtype)
        group = i // self.accumulate * self.accumulate * self.batch_size
        group_size = min(group + self.accumulate * self.batch_size, len(self.images)) - group
        size = len(range(self.rank, len(x), self.world))
        mine = slice(self.rank, None, self.world) if size else slice(0, 1)
        return Minibatch(
            probability[mine],
            y[mine],
            index,
            index / self.minibatches,
            size,
            size * self.world / group_size,
            (i + 1) % self.accumulate == 0 or i + 1 == self.minibatches,
        )
