"""Examples in memory, split, scaled and binarised."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from torch import Tensor

from vae_lightning import noise
from vae_lightning.data.loader import MemoryLoader, aligned
from vae_lightning.data.pixels import binary, once, padded
from vae_lightning.data.split import divide, keep_labels, part
from vae_lightning.errors import ConfigError
from vae_lightning.paths import expanded
from vae_lightning.schema import Binarize, Count, Fraction, NonNegativeInt


@dataclass(frozen=True)
class Raw:
    """A data set as it comes: images (N, C, H, W), labels (N,) int64.

    Pixels are uint8 and will be divided by 255; floats are served as they are. Who takes the images may write into
    their memory: they are rearranged where they lie, as there may be gigabytes of them.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    factors: tuple[Tensor, Tensor] | None = None  # (N, F) int64 for train and test: what each image was made from
    factor_names: tuple[str, ...] = ()
    test_log_prob: Tensor | None = None  # (N,) nats: log p(x) of each test image, where it is known


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
        val_size: images taken out of the training set, or below 1 which part of it.
        split_seed: decides which, and which labels are kept; nothing else does.
        binarize: `dynamic`, `static` (the training images are drawn once too), `threshold` (at 1/2) or `none`.
        limit: the first n images of each split only.
        pad: height and width after adding a black border.
        labelled: training images that keep their label, equally many of each class; the others get -1.
        seed: of the order of the training images and their noise.
        minibatches_per_step: minibatches that the loader hands out together.
        accumulate_grad_batches: minibatches per step of the optimiser.

    Raises:
        ConfigError: more validation images or labels than there are, a border that would cut, or numbers that are no
            pixels and cannot be binarised.
    """

    def __init__(
        self,
        source: Source,
        root: str | None = None,
        batch_size: Count = 128,
        eval_batch_size: Count = 512,
        val_size: NonNegativeInt | Fraction = 5000,
        split_seed: NonNegativeInt = 0,
        binarize: Binarize = "dynamic",
        limit: Count | None = None,
        pad: Count | None = None,
        labelled: Count | None = None,
        *,
        seed: int,
        minibatches_per_step: int,
        accumulate_grad_batches: int,
    ) -> None:
        super().__init__()
        self.name, self.binarize, self.seed = source.name, binarize, seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.chunk, self.accumulate = aligned(minibatches_per_step, accumulate_grad_batches), accumulate_grad_batches
        raw = source.read(expanded(root) if root is not None else None)
        x, y = padded(raw.train[0], pad), raw.train[1]
        if x.is_floating_point() and binarize != "none":
            raise ConfigError(f"data.binarize={binarize}: these are no pixels; say data.binarize=none")
        n_val = part(val_size, len(x))
        if not 0 < n_val < len(x):
            raise ConfigError(f"data.val_size={val_size}: between 1 and {len(x) - 1} of the {len(x)} training images")
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(split_seed))
        train, val, test = order[n_val:][:limit], order[:n_val][:limit], slice(None, limit)
        if labelled is not None and labelled > len(train):
            raise ConfigError(f"data.labelled={labelled}: there are {len(train)} training images")
        if limit is None:
            x_train, x_val = divide(x, order, n_val)
        else:  # copies, as all the rest is to be forgotten
            x_train, x_val = x[train], x[val]
        fixed = once(binarize)
        y_train = y[train] if labelled is None else keep_labels(y[train], labelled)
        self.train = (binary(x_train, binarize, noise.TRAIN), y_train)
        self.val = (binary(x_val, fixed, noise.VAL), y[val])
        self.test = (binary(padded(raw.test[0], pad)[test], fixed, noise.TEST), raw.test[1][test])
        self.factors: dict[str, Tensor] | None = None
        if raw.factors is not None:
            known, known_test = raw.factors
            self.factors = {"train": known[train], "val": known[val], "test": known_test[test]}
        self.factor_names = raw.factor_names
        self.test_log_prob = None if raw.test_log_prob is None else raw.test_log_prob[test].mean().item()
        self.labelled = labelled
        self.shape = tuple(x.shape[1:])
        self.n_train, self.n_classes = len(train), 1 + int(max(y.max(), raw.test[1].max()))
        self.minibatches = math.ceil(self.n_train / batch_size)
        self.portions = math.ceil(self.minibatches / self.chunk)  # that Lightning sees in an epoch
        self.steps_per_epoch = math.ceil(self.minibatches / accumulate_grad_batches)

    @cached_property
    def sha256(self) -> str:
        """Of all images and labels, as they are served in float32."""
        found = hashlib.sha256()
        for split in (self.train, self.val, self.test):
            for tensor in split:
                numbers = tensor.float() if tensor.is_floating_point() else tensor
                found.update(numbers.contiguous().numpy().data)
        return found.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What was used, for the record."""
        sizes = {"n_train": self.n_train, "n_val": len(self.val[0]), "n_test": len(self.test[0])}
        extra = {"n_labelled": self.labelled, "exact_test_log_prob": self.test_log_prob}
        said = {key: value for key, value in extra.items() if value is not None}
        return {
            "name": self.name,
            "shape": list(self.shape),
            "binarize": self.binarize,
            "sha256": self.sha256,
            **sizes,
            **said,
        }

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
