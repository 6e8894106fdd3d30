"""Where the curves go. Both write into the run folder itself, and go on where a resumed run left off."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from vae_lightning.atomic import replaced


class TensorBoard(TensorBoardLogger):
    """TensorBoard events directly in the run folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False)

    @rank_zero_only
    def save(self) -> None:
        """Lightning would write a `hparams.yaml`; `.hydra/config.yaml` has it all."""
        self.experiment.flush()


class MetricsCSV(Logger):
    """`metrics.csv`: a row per step at which anything was logged, a column per metric, empty where there was nothing.

    The file is rewritten, atomically, once per epoch.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.rows: dict[int, dict[str, Any]] = {}

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
        if not self.rows and self.path.is_file():  # a run that goes on; steps after its checkpoint are taken again
            with self.path.open(newline="") as file:
                old = {int(row["step"]): {k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)}
            self.rows = {at: row for at, row in old.items() if step is None or at < step}
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
