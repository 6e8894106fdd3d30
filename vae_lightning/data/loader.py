"""Minibatches from images in memory: no workers, no per-image Python, and an order that can be resumed anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_lightning import noise
from vae_lightning.data.pixels import scaled

DRAWN = 2**22  # random numbers that a card draws at once for its pixels: a minibatch of them keeps it busy for no time


class Minibatch(NamedTuple):
    """The images of one minibatch that this process looks at."""

    x: Tensor  # (B, C, H, W) floats; pixels lie in [0, 1]
    y: Tensor  # (B,) labels
    number: int  # minibatches since the start of the run
    epoch: float  # how many epochs lie before it
    size: int  # B; 0 if the images are only here to keep another process company
    weight: float  # of its mean loss in the gradient, so that every image counts alike
    steps: bool  # whether the optimiser steps after it
    total: int  # images of all processes


def aligned(chunk: int, accumulate: int) -> int:
    """Minibatches that are yielded together: whole steps of the optimiser, between which a run can go on."""
    return max(1, chunk // accumulate) * accumulate


class Chunk:
    """Consecutive minibatches. Each is made when it is asked for, and so still in the cache when it is used."""

    def __init__(self, loader: MemoryLoader, order: Tensor, first: int, last: int) -> None:
        self.loader, self.first, self.given = loader, first, first
        chosen = order[first * loader.batch_size : last * loader.batch_size]
        self.images, self.labels = loader.images[chosen], loader.labels[chosen]
        if loader.dynamic and loader.images.is_cuda:
            self.images = loader.binary(self.images, first, last)

    def __iter__(self) -> Iterator[Minibatch]:
        size = self.loader.batch_size
        for i, (x, y) in enumerate(zip(self.images.split(size), self.labels.split(size), strict=True), self.first):
            self.given = i + 1
            yield self.loader.minibatch(i, x, y)

    def cut(self) -> None:
        """What was not asked for yet is left for later: the loader goes on there."""
        self.loader.position = self.given


class MemoryLoader:
    """Yields `chunk` minibatches at a time; what is in them does not depend on `chunk`.

    The order of an epoch is a function of the seed and the epoch, the noise of dynamic binarisation a function of the
    seed and the minibatch: `state_dict` holds nothing but a position.

    Args:
        images: (N, C, H, W), on the device that computes; uint8 pixels, or floats that are served as they are.
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
        self.chunk = aligned(chunk, accumulate)
        self.minibatches = math.ceil(len(images) / batch_size)
        self.epoch = self.position = 0
        self.pixels = torch.Generator(images.device)
        self.block = max(1, DRAWN // (batch_size * images[0].numel()))  # minibatches whose pixels are drawn at once
        self.drawn: tuple[int, Tensor] | None = None  # for which block, (n, C, H, W)
        self.ahead: tuple[int, Tensor] | None = None  # an epoch to come, and its order

    def __len__(self) -> int:
        return math.ceil(self.minibatches / self.chunk)

    batch_sampler = None

    @property
    def sampler(self) -> MemoryLoader:
        """Lightning tells the `sampler` of a loader which epoch begins."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of another epoch; where it is already there, stay. Evaluation is always the same."""
        if not (self.shuffle or self.dynamic):
            self.position = 0
        elif epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[Chunk]:
        # A generator: the order is made when the first minibatch is asked for, after `set_epoch`.
        if self.position >= self.minibatches:
            self.position = 0
        order = self._order()
        while self.position < self.minibatches:
            first = self.position
            self.position = min(self.minibatches, (first // self.chunk + 1) * self.chunk)
            yield Chunk(self, order, first, self.position)
            if self.shuffle and self.images.is_cuda and 2 * self.position >= self.minibatches and self.ahead is None:
                self.ahead = self.epoch + 1, self._shuffled(self.epoch + 1)  # while the card has something to do

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self.images), device=self.images.device)
        ahead, self.ahead = self.ahead, None
        return ahead[1] if ahead is not None and ahead[0] == self.epoch else self._shuffled(self.epoch)

    def _shuffled(self, epoch: int) -> Tensor:
        order = torch.randperm(len(self.images), generator=noise.generator("cpu", self.seed, noise.ORDER, epoch))
        if self.images.is_cuda:
            order = order.pin_memory()
        return order.to(self.images.device, non_blocking=True)

    def minibatch(self, i: int, x: Tensor, y: Tensor) -> Minibatch:
        """The `i`-th of this epoch, of images (B, C, H, W) and labels (B,)."""
        index = self.epoch * self.minibatches + i
        if self.dynamic and x.dtype == torch.uint8:  # P(255 u < grey) = grey / 255
            self.pixels.manual_seed(noise.key(self.seed, noise.PIXELS, index))
            pixels = torch.rand(x.shape, device=x.device, generator=self.pixels).mul_(255).lt_(x)
        else:
            pixels = scaled(x)
        group = i // self.accumulate * self.accumulate * self.batch_size
        group_size = min(group + self.accumulate * self.batch_size, len(self.images)) - group
        size = len(range(self.rank, len(x), self.world))
        mine = slice(self.rank, None, self.world) if size else slice(0, 1)
        return Minibatch(
            pixels[mine],
            y[mine],
            index,
            index / self.minibatches,
            size,
            size * self.world / group_size,
            (i + 1) % self.accumulate == 0 or i + 1 == self.minibatches,
            len(x),
        )

    def binary(self, x: Tensor, first: int, last: int) -> Tensor:
        """The images (N, C, H, W) of some minibatches of this epoch, drawn in few operations: floats 0 and 1.

        Which numbers they are held against depends on the minibatch, and not on who comes with it.
        """
        size, parts = self.batch_size, list[Tensor]()
        for block in range(first // self.block, (last - 1) // self.block + 1):
            begin = block * self.block * size
            parts.append(self._block(block)[max(0, first * size - begin) : last * size - begin])
        u = parts[0] if len(parts) == 1 else torch.cat(parts)
        return (u < x).to(torch.get_default_dtype())  # P(u < grey) = grey / 255

    def _block(self, block: int) -> Tensor:
        """Whole numbers from 0 to 254."""
        index = self.epoch * math.ceil(self.minibatches / self.block) + block
        if self.drawn is None or self.drawn[0] != index:
            n = min(self.block * self.batch_size, len(self.images) - block * self.block * self.batch_size)
            u = torch.empty(n, *self.images.shape[1:], dtype=torch.uint8, device=self.images.device)
            self.pixels.manual_seed(noise.key(self.seed, noise.PIXELS, index))
            self.drawn = index, u.random_(0, 255, generator=self.pixels)
        return self.drawn[1]
