"""Images in memory, split, scaled and binarised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_lightning import noise
from vae_lightning.data.loader import MemoryLoader
from vae_lightning.errors import ConfigError
from vae_lightning.schema import Binarize, Count, NonNegativeInt

BINARIZE_SEED = 777  # the same binary validation and test images for everybody


@dataclass(frozen=True)
class Raw:
    """A data set as it comes: images (N, C, H, W) uint8, labels (N,) int64."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


class Source(Protocol):
    """Where a data set comes from."""

    name: str

    def read(self, root: Path | None) -> Raw:
        """The whole data set; downloads below `root` what is not there."""


class Images(L.LightningDataModule):
    """Serves a data set that fits into memory.

    Dynamic binarisation draws every training pixel anew at each presentation, as in Burda et al. (2016),
    arXiv:1509.00519; validation and test images are drawn once, from a seed of their own.

    Args:
        source: reads the data set.
        root: the folder where its files are kept.
        batch_size: images per minibatch, over all devices.
        eval_batch_size: likewise, for validation and test.
        val_size: images taken out of the training set.
        split_seed: decides which; nothing else does.
        binarize: `dynamic`, `static` (the training images are drawn once too), `threshold` (at 1/2) or `none`.
        limit: the first n images of each split only.
        pad: height and width after adding a black border.
        seed: of the order of the training images and their noise.
        minibatches_per_step: minibatches that the loader hands out together.
        accumulate_grad_batches: minibatches per step of the optimiser.

    Raises:
        ConfigError: more validation images than there are, or a border that would cut.
    """

    def __init__(
        self,
        source: Source,
        root: str | None = None,
        batch_size: Count = 128,
        eval_batch_size: Count = 512,
        val_size: NonNegativeInt = 5000,
        split_seed: NonNegativeInt = 0,
        binarize: Binarize = "dynamic",
        limit: Count | None = None,
        pad: Count | None = None,
        *,
        seed: int,
        minibatches_per_step: int,
        accumulate_grad_batches: int,
    ) -> None:
        super().__init__()
        self.name, self.binarize, self.seed = source.name, binarize, seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.chunk, self.accumulate = minibatches_per_step, accumulate_grad_batches
        raw = source.read(Path(root).expanduser() if root is not None else None)
        x, y = _padded(raw.train[0], pad), raw.train[1]
        if not 0 < val_size < len(x):
            raise ConfigError(f"data.val_size={val_size}: between 1 and {len(x) - 1} of the {len(x)} training images")
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(split_seed))
        train, val = order[val_size:][:limit], order[:val_size][:limit]
        test = slice(None, limit)
        once = "static" if binarize == "dynamic" else binarize
        self.train = (_binary(x[train], binarize, noise.TRAIN), y[train])
        self.val = (_binary(x[val], once, noise.VAL), y[val])
        self.test = (_binary(_padded(raw.test[0], pad)[test], once, noise.TEST), raw.test[1][test])
        self.shape = tuple(x.shape[1:])
        self.n_train, self.n_classes = len(train), int(raw.train[1].max()) + 1
        self.steps_per_epoch = math.ceil(math.ceil(self.n_train / batch_size) / accumulate_grad_batches)

    def describe(self) -> dict[str, Any]:
        """What was used, for the record."""
        sizes = {"n_train": self.n_train, "n_val": len(self.val[0]), "n_test": len(self.test[0])}
        return {"name": self.name, "shape": list(self.shape), "binarize": self.binarize, **sizes}

    def train_dataloader(self) -> MemoryLoader:
        return self._loader(
            self.train,
            self.batch_size,
            shuffle=True,
            dynamic=self.binarize == "dynamic",
            chunk=self.chunk,
            accumulate=self.accumulate,
        )

    def val_dataloader(self) -> MemoryLoader:
        return self._loader(self.val, self.eval_batch_size)

    def test_dataloader(self) -> MemoryLoader:
        return self._loader(self.test, self.eval_batch_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # it was made there

    def _loader(self, split: tuple[Tensor, Tensor], batch_size: int, **how: Any) -> MemoryLoader:
        device, rank, world = torch.device("cpu"), 0, 1
        if self.trainer is not None:
            device, rank, world = self.trainer.strategy.root_device, self.trainer.global_rank, self.trainer.world_size
        images, labels = (part.to(device) for part in split)
        return MemoryLoader(images, labels, batch_size, seed=self.seed, rank=rank, world=world, **how)


def _binary(x: Tensor, how: Binarize, stream: int) -> Tensor:
    """Images (N, C, H, W) uint8 with values 0 and 255 only, or untouched."""
    if how == "threshold":
        return (x > 127).to(torch.uint8) * 255
    if how == "static":
        generator = noise.generator("cpu", BINARIZE_SEED, stream, 0)
        return (torch.rand(x.shape, generator=generator) < x.float() / 255).to(torch.uint8) * 255
    return x


def _padded(x: Tensor, size: int | None) -> Tensor:
    if size is None:
        return x
    h, w = size - x.shape[-2], size - x.shape[-1]
    if min(h, w) < 0:
        raise ConfigError(f"data.pad={size}: the images have {x.shape[-2]}x{x.shape[-1]} pixels, and none are cut off")
    return F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2))
