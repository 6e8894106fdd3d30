"""A trained model as files for others: safetensors, ONNX, a model card, and all that on a hub."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch.distributions import Distribution

from vae_lightning.checkpoint import GROUPS, read_model
from vae_lightning.errors import ConfigError
from vae_lightning.export import card, folder, hub
from vae_lightning.export.onnx import COMPARED, FILES, Part, convert
from vae_lightning.paths import expanded
from vae_lightning.resume import run_folders
from vae_lightning.schema import Positive
from vae_lightning.trained import Trained

log = logging.getLogger("vae_lightning")


def export(
    run: str | list[str],
    out: str | None = None,
    onnx: bool = True,
    tolerance: Positive = 1e-4,
    push: str | None = None,
    private: bool = True,
    license: str | None = None,
    root: str | None = None,
) -> list[Path]:
    """Export the best checkpoint of one or several runs.

    Args:
        run: run folders, checkpoints, or folders of sweeps.
        out: the folder to write into; null: `export` in each run folder.
        onnx: write encoder and decoder as ONNX too; needs the data, to compare.
        tolerance: the largest difference between onnxruntime and PyTorch.
        push: a repository of the Hugging Face hub, to upload to.
        private: whether it is, if it is made now.
        license: of the weights, for the model card.
        root: where the data are, if not where they were in training.

    Returns:
        The folders that were written.

    Raises:
        ConfigError: there is no such run, no such place to write to, or one place for several runs.
        UserError: a checkpoint is damaged, ONNX and PyTorch differ, a package is missing, or the hub refuses.
    """
    Distribution.set_default_validate_args(False)
    runs = run_folders(run)
    for key, value in (("out", out), ("push", push)):
        if value is not None and len(runs) > 1:
            raise ConfigError(f"{key}={value}: that is one place for {len(runs)} runs; name one run")
    if push is not None:
        hub.check(push)
    written = []
    for each in runs:
        trained = Trained(each, root, "cpu")
        target = expanded(out) if out is not None else trained.folder / "export"
        _clear(target)
        parts = _files(trained, target, onnx, tolerance)
        names = [folder.CONFIG, folder.WEIGHTS, *(part.file for part in parts if not part.reason)]
        names += card.write(trained, parts, target, push, license)
        _show(target, names, parts)
        if push is not None:
            log.info("pushed to %s", hub.push(target, names, push, private))
        written.append(target)
    return written


def _clear(target: Path) -> None:
    """Make the folder; of an earlier export in it nothing stays that this one may not write again."""
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={target}: {error.strerror}") from error
    if (target / card.NAME).exists() and folder.exported(target) is None:
        raise ConfigError(f"out={target}: has a {card.NAME} that is no model card; name another folder")
    for name in (*FILES, card.NAME, *card.PICTURES):
        (target / name).unlink(missing_ok=True)


def _files(trained: Trained, target: Path, onnx: bool, tolerance: float) -> list[Part]:
    record, weights = read_model(trained.checkpoint)
    folder.write(target, portable(record), weights)
    if not onnx:
        return []
    batch = next(trained.batches("test", max(COMPARED)))
    return convert(trained.model, batch.x, batch.c, target, tolerance)


def portable(record: dict[str, Any]) -> dict[str, Any]:
    """The part of a checkpoint's record that the model is made from: no names of code, no paths, no training."""
    config = {group: _values(record["config"][group]) for group in GROUPS}
    rest = {"condition": record["config"]["condition"], "data": {"binarize": record["config"]["data"]["binarize"]}}
    return {**record, "config": {**config, **rest}}


def _values(node: dict[str, Any]) -> dict[str, Any]:
    return {k: _values(v) if isinstance(v, dict) else v for k, v in node.items() if k != "_target_"}


def _show(target: Path, names: list[str], parts: list[Part]) -> None:
    by_name = {part.file: part for part in parts}
    table = Table(title=str(target), title_justify="left")
    for column, justify in (("file", "left"), ("bytes", "right"), ("", "left")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name in names:
        part = by_name.get(name)
        note = f"as PyTorch within {part.difference:.1e}, for {', '.join(map(str, COMPARED))} images" if part else ""
        table.add_row(name, f"{(target / name).stat().st_size:,}", note)
    for part in parts:
        if part.reason:
            table.add_row(part.file, "", f"not exported: {part.reason}")
    console = Console()
    console.print(table)
    console.print(f'vae_lightning.load("{target}") gives the model back', soft_wrap=True, highlight=False)
