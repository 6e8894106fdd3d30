"""Runs that are harmed and go on, and what they must agree in with a run that was left alone."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import forked
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
SHORT = [
    "data=digits", "data.limit=96", "data.batch_size=16", "data.source.size=8", "model.hidden=[16]",
    "model.latent_dim=4", "accelerator=cpu", "trainer.max_epochs=3", "trainer.minibatches_per_step=4",
    "trainer.log_every_n_steps=2", "trainer.enable_progress_bar=false", "pictures=false",
]  # fmt: skip  # six minibatches an epoch, two portions
TIMES = ("seconds", "images_per_second", "elapsed")  # that no two runs have in common


def run(
    harm: str, *arguments: str, cwd: Path, timeout: float = 120, seen: str = "", module: str = "vae_lightning"
) -> subprocess.CompletedProcess[str]:
    """A command line to which `harm` is done, see `harm.py`; `none` for none. What it saw is in `seen`."""
    words = [sys.executable, "-m", "harm", harm, seen, module, *arguments]
    return forked.run(words, cwd, forked.environment(PYTHONPATH=str(HERE)), timeout)


def seen(folder: Path) -> list[str]:
    """The minibatches that were trained on."""
    return (folder / "seen").read_text().splitlines()


def left_running(folder: Path) -> list[str]:
    """The command lines of processes that work in or below `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if Path(os.readlink(process / "cwd")).is_relative_to(folder) and process.name != str(os.getpid()):
                found.append((process / "cmdline").read_text())
    return found


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """All that is in nested containers, by where it is."""
    if isinstance(value, dict):
        items = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(i), part) for i, part in enumerate(value)]
    else:
        return {path: value}
    return {k: v for key, part in items for k, v in leaves(part, f"{path}/{key}").items()} or {path: type(value)}


def checkpoint(path: Path) -> dict[str, Any]:
    """All that is in a checkpoint, by where it is, without times."""
    content = leaves(torch.load(path, weights_only=True))
    return {name: value for name, value in content.items() if not name.endswith(TIMES)}


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Where two of them do not agree to the last bit."""

    def same(x: Any, y: Any) -> bool:
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            return x.dtype == y.dtype and x.shape == y.shape and torch.equal(x, y)
        return bool(type(x) is type(y) and x == y)

    missing = object()
    return [name for name in {**a, **b} if not same(a.get(name, missing), b.get(name, missing))]


def results(folder: Path) -> dict[str, Any]:
    """`results.json` without times."""
    return {k: v for k, v in json.loads((folder / "results.json").read_text()).items() if k not in TIMES}


def rows(folder: Path) -> list[dict[str, str]]:
    """Of `metrics.csv`."""
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves as TensorBoard shows them: steps and values."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def agree(whole: Path, other: Path) -> None:
    """Everything that two finished runs leave is the same, to the last bit."""
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (checkpoint(folder / "checkpoints" / name) for folder in (whole, other))
        wrong = differences(a, b)
        assert not wrong, f"{name}: {len(wrong)} differ, as {wrong[0]}: {a.get(wrong[0])} and {b.get(wrong[0])}"
    assert results(whole) == results(other)
    assert rows(whole) == rows(other)
    assert events(whole) == events(other)
