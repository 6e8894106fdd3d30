"""What a run has found, kept in `results.json` and shown as a table."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table

import vae_lightning
from vae_lightning.atomic import write_json
from vae_lightning.errors import UserError
from vae_lightning.schema import allows
from vae_lightning.units import UNITS

DIGITS = {"bits_per_dim": 4, "accuracy": 4}


def results_of(trainer: L.Trainer) -> dict[str, Any]:
    """What the test found, after how many epochs, and on what."""
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
    return {
        "test": {k.removeprefix("test/"): v for k, v in metrics.items() if k.startswith("test/")},
        "epochs": trainer.current_epoch,
        "versions": versions(),
        "device": device_name(trainer),
    }


def device_name(trainer: L.Trainer) -> str:
    """How many devices of which kind."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return f"{trainer.world_size} x {device.type} ({name})"


def made_with(trainer: L.Trainer) -> dict[str, Any]:
    """What the last bits of a result may depend on beside the configuration: versions, device, threads, data."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return {**versions(), "device": device_name(trainer), "data": data.sha256}


def versions() -> dict[str, str]:
    """What ran: Python, torch, this package and what it stands on."""
    packages = {name: version(name) for name in ("lightning", "hydra-core")}
    own = {"vae-lightning": vae_lightning.__version__}  # a checkout that nobody has installed has one too
    return {"python": platform.python_version(), "torch": str(torch.__version__), **own, **packages}


def read(path: Path, again: str) -> dict[str, Any]:
    """What `write` has written; empty if there is no such file.

    Args:
        path: of the file.
        again: the word for making it anew, for the error.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it, and {again} again") from error
    if not isinstance(found, dict) or not _ours(found):
        raise UserError(f"{path}: damaged, or not written by vae_lightning; delete it, and {again} again")
    return found


def _ours(found: dict[str, Any]) -> bool:
    """Whether `results.json`, or `evaluate.json`, is made as it is written here: a stranger may have written it."""
    numbers = [found.get("test", {}), found.get("val", {})]
    metrics, data = found.get("metrics", {}), found.get("data", {})
    if not all(isinstance(part, dict) for part in (*numbers, metrics, data)):
        return False
    if not all(allows(float, value) for part in numbers for value in part.values()):
        return False
    texts = found.get("best_checkpoint", ""), found.get("checkpoint", ""), data.get("name", "")
    return all(isinstance(text, str) for text in texts) and all(map(_is_entry, metrics.values()))


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("skipped", ""), str):
        return False
    values, settings = entry.get("values", {}), entry.get("settings", {})
    if not isinstance(settings, dict) or not isinstance(values, dict):
        return False
    return all(isinstance(v, dict) for v in values.values()) and all(
        allows(float, v.get("value"))
        and allows(float | None, v.get("standard_error"))
        and all(isinstance(v.get(key) or "", str) for key in ("unit", "note", "better"))
        for v in values.values()
    )


def write(results: dict[str, Any], path: Path, told: str = "test") -> None:
    """The results as JSON, all at once or not at all.

    Args:
        results: plain values.
        path: of the file.
        told: the part that an error shows.

    Raises:
        UserError: a number is not finite.
    """
    try:
        write_json(path, results, allow_nan=False)
    except ValueError as error:
        raise UserError(f"{path}: a result is not finite, nothing was written: {results[told]}") from error


def show(results: dict[str, Any], folder: Path) -> None:
    """The results as a table on the console."""
    table = Table(title="test results of the best checkpoint")
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for name, value in results["test"].items():
        table.add_row(name, f"{value:.{DIGITS.get(name, 2)}f}", UNITS.get(name, ""))
    table.add_row("speed", f"{results['images_per_second']:,.0f}", "training images per second")
    table.add_row("epochs", str(results["epochs"]), f"{results['seconds']:.0f} seconds in all")
    console = Console()
    console.print(table)
    console.print(f"everything is in {folder}", soft_wrap=True, highlight=False)
