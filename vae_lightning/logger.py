"""Where the curves go. Both write into the run folder itself; a run that goes on takes later steps anew."""

from __future__ import annotations

import csv
import io
import math
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins import projector  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from vae_lightning.atomic import replaced
from vae_lightning.picture.grid import pillow, tile

SPRITES = 4096  # pixels: the side of the square of all images in the projector
REPEATED = ("accelerator.", "beta.end")  # what trainer.* and loss.beta say too


class TensorBoard(TensorBoardLogger):
    """TensorBoard events directly in the run folder.

    Args:
        folder: of the run.
        resumed_step: of the checkpoint that the run goes on from; what earlier files say of later ones is forgotten.
    """

    def __init__(self, folder: Path, resumed_step: int | None) -> None:
        purge: dict[str, Any] = {} if resumed_step is None else {"purge_step": resumed_step + 1}
        super().__init__(folder, name="", version="", default_hp_metric=False, **purge)

    @rank_zero_only
    def save(self) -> None:
        """Lightning would write a `hparams.yaml`; `.hydra/config.yaml` has it all."""
        self.experiment.flush()

    @rank_zero_only
    def log_image(self, name: str, image: Tensor, step: int) -> None:
        """An image (C, H, W) in [0, 1]; without colours it takes a third of the time of `add_image`."""
        flat = pillow(image)
        with io.BytesIO() as file:
            flat.save(file, "PNG", compress_level=1)
            shown = Summary.Image(encoded_image_string=file.getvalue(), colorspace=len(flat.getbands()))
        shown.width, shown.height = flat.size
        self.experiment._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=shown)]), step)

    @rank_zero_only
    def log_results(self, record: Mapping[str, Any], results: Mapping[str, float]) -> None:
        """A row of the HParams table: `results` are among the scalars already.

        The summary that says which columns there are is left out: TensorBoard then finds all that any run has, and
        shows first those in which the runs differ.

        Args:
            record: what a checkpoint says of itself.
            results: of the test.
        """
        writer = self.experiment._get_file_writer()
        for summary in hparams(settings(record), dict(results))[1:]:
            writer.add_summary(summary)

    @rank_zero_only
    def log_latents(self, z: Tensor, labels: Sequence[int], images: Tensor | None) -> None:
        """For the projector: z (N, D), labels (N,) and, where there are any, images (N, C, H, W) in [0, 1].

        Of large images only so many as fit side by side into 4096 x 4096 pixels: a browser takes no more.
        """
        if images is not None:
            n = max(1, SPRITES // max(images.shape[-2:])) ** 2
            z, labels, images = z[:n], labels[:n], images[:n]
        root = Path(self.log_dir)
        folder = root / "projector"
        folder.mkdir(parents=True, exist_ok=True)
        config = projector.ProjectorConfig()
        latents = config.embeddings.add(tensor_name="latents", tensor_path="projector/latents.tsv")
        latents.metadata_path = "projector/labels.tsv"
        with replaced(folder / "latents.tsv") as file:  # the projector draws nothing in fewer than three dimensions
            np.savetxt(file, F.pad(z, (0, max(0, 3 - z.shape[1]))).cpu().numpy(), "%.6g", "\t")
        with replaced(folder / "labels.tsv") as file:
            file.writelines(f"{label}\n" for label in labels)
        if images is not None:
            side = math.ceil(math.sqrt(len(images)))  # sprites lie in a square, which is to be full
            images = torch.cat([images, images.new_zeros(side**2 - len(images), *images.shape[1:])])
            latents.sprite.image_path = "projector/sprite.png"
            latents.sprite.single_image_dim.extend([images.shape[-1], images.shape[-2]])
            with replaced(folder / "sprite.png", "wb") as file:
                pillow(tile(images, side, gap=0)).save(file, "PNG", compress_level=1)
        projector.visualize_embeddings(str(root), config)


def settings(record: Mapping[str, Any]) -> dict[str, str | float]:
    """The options and values of a run, by the names that they have on a command line.

    >>> settings({"choices": {"loss": "elbo"}, "config": {"loss": {"_target_": "a.B", "beta": 4.0, "samples": None}}})
    {'loss': 'elbo', 'loss.beta': 4.0}
    """
    found = {**record["choices"], **dict(_leaves(record["config"], ""))}
    return {name: value for name, value in found.items() if not name.startswith(REPEATED)}


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str | float]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            if value.get("path") and value.get("start") == value.get("end"):
                continue  # a schedule that stays where the value is
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None and key != "_target_":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            yield prefix + key, value if number else str(value).lower() if isinstance(value, bool) else str(value)


class MetricsCSV(Logger):
    """`metrics.csv`: a row per step at which anything was logged, a column per metric, empty where there was nothing.

    The file is rewritten, atomically, once per epoch.

    Args:
        folder: of the run.
        resumed_step: of the checkpoint that the run goes on from; rows of later steps are taken anew.
    """

    def __init__(self, folder: Path, resumed_step: int | None) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.rows: dict[int, dict[str, Any]] = {}
        if resumed_step is not None and self.path.is_file():
            with self.path.open(newline="") as file:
                old = {int(row["step"]): {k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)}
            self.rows = {step: row for step, row in old.items() if step <= resumed_step}

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """`.hydra/config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.setdefault(step or 0, {"step": step or 0}).update(metrics)

    @rank_zero_only
    def save(self) -> None:
        if not self.rows:
            return
        columns = sorted({name for row in self.rows.values() for name in row} - {"step"})
        with replaced(self.path, newline="") as file:
            writer = csv.DictWriter(file, ["step", *columns], restval="")
            writer.writeheader()
            writer.writerows(self.rows[step] for step in sorted(self.rows))

    def finalize(self, status: str) -> None:
        self.save()
