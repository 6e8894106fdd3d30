"""`best.ckpt` and `last.ckpt`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from vae_lightning.errors import UserError
from vae_lightning.whole import damage

log = logging.getLogger("vae_lightning")


class Kept(ModelCheckpoint):
    """One file of a run folder, which it finds again wherever that folder lies by then.

    Lightning's own keeps the paths of files that it may remove in the checkpoint: those of another place, or, in a
    checkpoint from a stranger, of anything. This one keeps the best score alone.
    """

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    @property
    def path(self) -> Path:
        """Of the file."""
        return Path(self.dirpath or "") / f"{self.filename}{self.FILE_EXTENSION}"

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score = state_dict["best_model_score"]
        if score is None:
            return
        if not isinstance(score, Tensor) or score.numel() != 1:
            raise UserError("callbacks: the best score is no number")
        why = damage(self.path) if self.path.is_file() else "it is missing"
        if why is not None:
            log.warning("%s: %s; the next validation makes a new one", self.path, why)
            return
        path = str(self.path)
        self.best_model_path = self.kth_best_model_path = path
        self.best_model_score = self.kth_value = score
        self.best_k_models = {path: score}


def checkpoints(folder: Path, check_val_every_n_epoch: int) -> list[Kept]:
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
