"""What a model makes of images: to look at while a run goes on, and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from vae_lightning.data.images import Images
from vae_lightning.data.pixels import scaled
from vae_lightning.lit import LitVAE
from vae_lightning.logger import TensorBoard
from vae_lightning.picture.curve import Measured, measure
from vae_lightning.picture.gallery import SHEETS, attempt, draw
from vae_lightning.picture.latent import pca
from vae_lightning.picture.subject import Subject

VAL, TEST = 500, 2000  # images that are encoded at a validation, and at the end
PIXELS = 2**26  # no more than these, or large images would not fit
SHOWN = ("reconstructions", "samples", "spread", "traversals")  # in TensorBoard at each validation
WIDE = 100  # numbers of z that the projector gets; of more than these, as many principal components
KEY = "rates"  # in a checkpoint


class Pictures(Callback):
    """Images and charts: in TensorBoard at each validation, in `figures/` at the end.

    It measures the rate of each latent variable at each validation; checkpoints carry what it found, so that a run
    that goes on has all of it. At the end TensorBoard also gets the settings beside the test results, and the latents
    of test images for its projector.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history: list[Measured] = []

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        subject = _subject(pl_module, _data(trainer).val, VAL)
        with attempt("rates"):
            found = measure(subject, trainer.global_step)
            self.history += [] if found is None else [found]
        for board in _boards(trainer):
            for name in SHOWN:
                with attempt(name):
                    sheet = SHEETS[name](subject)
                    if sheet is not None:
                        board.log_image(name, sheet.tile(), trainer.global_step)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LitVAE)
        if not trainer.is_global_zero:
            return
        subject = _subject(pl_module, _data(trainer).test, TEST)
        with attempt("figures"):
            draw(subject, self.folder / "figures", self.history, self.folder / "metrics.csv")
        results = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        for board in _boards(trainer):
            with attempt("hparams"):
                board.log_results(pl_module.record, results)
            with attempt("projector"):
                mean = subject.encoded.mean.flatten(1)
                z = mean if mean.shape[1] <= WIDE else pca(mean, WIDE)[0]
                board.log_latents(z, subject.y.tolist(), subject.shown(subject.x) if subject.is_image else None)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = [list(each) for each in self.history]

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Only a run that goes on: the test of the best checkpoint is to show what came after it too."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.history = [Measured(*each) for each in checkpoint.get(KEY, [])]


def _data(trainer: L.Trainer) -> Images:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, Images)
    return data


def _boards(trainer: L.Trainer) -> list[TensorBoard]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]


def _subject(module: L.LightningModule, split: tuple[Tensor, Tensor], n: int) -> Subject:
    """The first n images of a split."""
    assert isinstance(module, LitVAE)
    n = min(n, max(1, PIXELS // split[0][0].numel()))
    y = split[1][:n].to(module.device)
    return Subject(module.model, scaled(split[0][:n].to(module.device)), y, module.context(y), module.seed)
