"""What a run shows while it works, and how fast it was."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar

from vae_lightning import status
from vae_lightning.lit import LitVAE

log = logging.getLogger("vae_lightning")


class ProgressBar(RichProgressBar):
    """Lightning's bar, drawn some times a second, with what the last minibatch came to."""

    SECONDS = 0.1  # between two drawings: each takes as long as a small network's step

    def __init__(self) -> None:
        super().__init__()
        self._drawn = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if time.monotonic() - self._drawn >= self.SECONDS or trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, *args)
            self._drawn = time.monotonic()

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """The bound in nats per image, or the loss where there is none, and what Lightning was told to show."""
        assert isinstance(pl_module, LitVAE)
        shown = {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}
        latest = pl_module.latest
        if pl_module.bounds(latest):
            return {"elbo": -(latest["distortion"] + latest["rate"]), **shown}
        return {"loss": latest["loss"], **shown} if latest else shown


class Progress(Callback):
    """Logs a line per epoch, and measures times, those before a resumption included.

    The line is told to `folder`'s status too, for who waits for the run.
    `seconds` is the time spent on training `images` images, validation and start-up left out; `elapsed()` is all of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds, self.images, self._since = 0.0, 0, 0.0
        self._before, self._started = 0.0, time.perf_counter()

    @property
    def begun(self) -> bool:
        """Whether this process has begun an epoch."""
        return self._since > 0

    def elapsed(self) -> float:
        """Seconds since the run was started, those that it lay still left out."""
        return self._before + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "images": self.images, "elapsed": self.elapsed()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.images, self._before = state["seconds"], state["images"], state["elapsed"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.images += args[0]["images"] * trainer.world_size
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()
        if not trainer.is_global_zero:
            return
        shown = ("val/elbo", "val/loss", "val/distortion", "val/rate")
        values = {k: float(trainer.callback_metrics[k]) for k in shown if k in trainer.callback_metrics}
        epoch, said = trainer.current_epoch + 1, "  ".join(f"{k} {v:.2f}" for k, v in values.items())
        log.info("epoch %d/%s  %s", epoch, trainer.max_epochs, said)
        status.update(self.folder, epoch=epoch, epochs=trainer.max_epochs, values=values)
