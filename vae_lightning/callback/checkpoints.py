"""`best.ckpt` and `last.ckpt`."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint

from vae_lightning.callback.kept import Kept


def checkpoints(folder: Path, check_val_every_n_epoch: int) -> list[ModelCheckpoint]:
    """The weights with the lowest validation loss, and those after the latest epoch."""
    where = folder / "checkpoints"
    best = Kept(
        where,
        "best",
        monitor="val/loss",
        mode="min",
        every_n_epochs=check_val_every_n_epoch,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = Kept(where, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    return [best, last]
