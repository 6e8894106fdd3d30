"""Reconstructions, samples and curves: to look at while a run goes on, and afterwards."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import lightning as L
import matplotlib
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from vae_lightning import noise
from vae_lightning.data.images import Images
from vae_lightning.data.pixels import scaled
from vae_lightning.lit import LitVAE
from vae_lightning.results import UNITS

COLUMNS, ROWS = 10, 5  # pairs of images, or samples, in a picture
COLORS = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
POINTS = 5000  # images in the plane of the latents


class Pictures(Callback):
    """Grids of reconstructions and prior samples: in TensorBoard at each validation, in `figures/` at the end.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "figures"

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LitVAE)
        if not trainer.is_global_zero:
            return
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not boards:
            return
        x, reconstructions, samples = _look(pl_module, _data(trainer).val)
        for board in boards:
            board.add_image("reconstructions", _pairs(x, reconstructions), trainer.global_step)
            board.add_image("samples", make_grid(samples, 2 * COLUMNS, pad_value=1), trainer.global_step)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LitVAE)
        if not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        x, reconstructions, samples = _look(pl_module, _data(trainer).test)
        _save(
            _pairs(x, reconstructions),
            "Test images (left of each pair) and their reconstructions",
            self.folder / "reconstructions.png",
        )
        _save(
            make_grid(samples, 2 * COLUMNS, pad_value=1),
            "Samples: E[x | z] with z from the prior",
            self.folder / "samples.png",
        )
        _plane(pl_module, _data(trainer).test, self.folder / "latents.png")
        _curves(self.folder.parent / "metrics.csv", self.folder / "curves.png")


def _data(trainer: L.Trainer) -> Images:
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, Images)
    return data


@torch.no_grad()
def _look(lit: LitVAE, split: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Images of a split, their reconstructions, and samples of the prior: (N, C, H, W), the samples (2 N, C, H, W)."""
    noise.reseed(lit.device, lit.seed, noise.PICTURES, 0)
    n = ROWS * COLUMNS
    x = scaled(split[0][:n].to(lit.device))
    c = lit.context(split[1][:n].to(lit.device))
    samples = lit.model.sample(2 * len(x), torch.cat([c, c]))
    low, high = (x.min(), x.max()) if split[0].is_floating_point() else (0.0, 1.0)
    shown = (x, lit.model.reconstruct(x, c), samples)
    return tuple(((t - low) / (high - low)).clamp(0, 1).cpu() for t in shown)  # type: ignore[return-value]


def _pairs(x: Tensor, reconstructions: Tensor) -> Tensor:
    return make_grid(torch.stack([x, reconstructions], 1).flatten(0, 1), 2 * COLUMNS, pad_value=1)


def _save(grid: Tensor, title: str, path: Path) -> None:
    h, w = grid.shape[-2:]
    figure = Figure(figsize=(12, 12 * h / w + 0.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(grid.movedim(0, -1).numpy(), interpolation="nearest")
    axes.set_title(title)
    axes.axis("off")
    figure.savefig(path)


@torch.no_grad()
def _plane(lit: LitVAE, split: tuple[Tensor, Tensor], path: Path) -> None:
    """Where images of each label lie, if z has two numbers."""
    if math.prod(lit.model.latent_shape) != 2:
        return
    x, y = scaled(split[0][:POINTS].to(lit.device)), split[1][:POINTS]
    z = lit.model.encode(x, lit.context(y.to(lit.device))).mode.flatten(1).cpu().float().numpy()
    figure = Figure(figsize=(9, 8), dpi=100, layout="constrained")
    axes = figure.subplots()
    for label in y.unique().tolist()[: len(COLORS)]:
        mine = z[(y == label).numpy()]
        axes.scatter(mine[:, 0], mine[:, 1], color=COLORS[label % len(COLORS)], s=5, alpha=0.7, label=str(label))
    axes.legend(title="label", loc="upper right", markerscale=3)
    axes.set(title="Modes of q(z | x) for test images", xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    axes.grid(alpha=0.3)
    figure.savefig(path)


def _curves(metrics: Path, path: Path) -> None:
    """Training and validation curves of what metrics.csv holds."""
    if not metrics.is_file():
        return
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = [name for name in UNITS if f"val/{name}" in rows[0] and name != "bits_per_dim"]
    terms = [name.removeprefix("val/") for name in rows[0] if name.startswith("val/")]
    names = [*first, *(name for name in terms if name not in UNITS)]
    lines = math.ceil(len(names) / 2)
    figure = Figure(figsize=(12, 4 * lines), dpi=100, layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(lines, 2, i + 1)
        shown = []
        for stage, color, marker in (("train", COLORS[0], ""), ("val", COLORS[1], "o")):
            points = [(int(r["step"]), float(r[f"{stage}/{name}"])) for r in rows if r.get(f"{stage}/{name}")]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=4, label=stage)
            shown += [v for step, v in points if step > 0.05 * points[-1][0]]  # the first steps would flatten the rest
        margin = 0.05 * (max(shown) - min(shown)) or 1.0
        axes.set_ylim(min(shown) - margin, max(shown) + margin)
        axes.set(title=name, xlabel="optimiser steps", ylabel=UNITS.get(name, ""))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)
