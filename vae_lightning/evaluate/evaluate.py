"""Every metric on the best checkpoint of a run: a table, and `evaluate.json` beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch.distributions import Distribution

from vae_lightning import results
from vae_lightning.build import make
from vae_lightning.errors import ConfigError
from vae_lightning.metric.value import Metric, NotApplicable
from vae_lightning.resume import run_folders
from vae_lightning.schema import Count, Seed
from vae_lightning.trained import Trained

Findings = dict[str, Any]


def evaluate(
    run: str | list[str],
    metric: dict[str, Any] | None = None,
    samples: Count = 5000,
    images: Count | None = 1000,
    seed: Seed = 0,
    root: str | None = None,
    device: str = "auto",
) -> list[Findings]:
    """Judge one or several runs; the findings are added to `evaluate.json` in each run folder.

    Args:
        run: run folders, checkpoints, or folders of sweeps.
        metric: the metrics, by name, as configurations.
        samples: importance samples per image, where a metric says `${samples}`.
        images: test images, where a metric says `${images}`.
        seed: of all draws.
        root: where the data are, if not where they were in training.
        device: `auto`, `cpu`, `cuda`, ...

    Returns:
        For each run what its `evaluate.json` says.

    Raises:
        ConfigError: there is no such run, or a metric cannot have these values.
        UserError: a checkpoint is damaged, or a number is not finite.
    """
    if not metric:
        raise ConfigError("metric=[]: at least one is needed; without metric= it is all of them")
    Distribution.set_default_validate_args(False)
    metrics = {name: (make(node), node) for name, node in metric.items()}
    found = []
    for folder in run_folders(run):
        findings = judge(Trained(folder, root, device), metrics, seed)
        show(findings, folder)
        found.append(findings)
    return found


def judge(trained: Trained, metrics: dict[str, tuple[Any, dict[str, Any]]], seed: int) -> Findings:
    """What metrics, each with its configuration, say of a run; written to `evaluate.json`, beside what was there."""
    path = trained.folder / "evaluate.json"
    findings = read(trained.folder)
    findings |= {"checkpoint": trained.checkpoint.name, "versions": results.versions(), "device": str(trained.device)}
    for name, (metric, node) in metrics.items():
        torch.manual_seed(seed)  # what one metric draws does not depend on the others
        start = time.perf_counter()
        settings = {key: value for key, value in node.items() if key != "_target_"}
        entry: Findings = {"settings": settings, "seed": seed}
        try:
            found = metric(trained).items()
            entry["values"] = {key: replace(value, better=better(metric, key)).plain() for key, value in found}
        except NotApplicable as reason:
            entry["skipped"] = str(reason)
        entry["seconds"] = round(time.perf_counter() - start, 2)
        findings.setdefault("metrics", {})[name] = entry
        results.write(findings, path, "metrics")
    return findings


def better(metric: Metric, name: str) -> str:
    """`lower` or `higher`: which of two values is the better one; empty: neither."""
    directions = {"lower": metric.lower_is_better, "higher": metric.higher_is_better}
    return next((word for word, names in directions.items() if name in names), "")


def read(folder: Path) -> Findings:
    """What `evaluate.json` in a run folder says; empty if there is none.

    Raises:
        UserError: it is damaged.
    """
    return results.read(folder / "evaluate.json", "evaluate")


def show(findings: Findings, folder: Path) -> None:
    """A table on the console."""
    table = Table(title=escape(str(folder)), title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("")
    for name, entry in findings["metrics"].items():
        table.add_section()
        table.add_row(
            f"[bold]{name}", "", "", f"[dim]not applicable: {escape(entry['skipped'])}" if "skipped" in entry else ""
        )
        for key, value in entry.get("values", {}).items():
            table.add_row(f"  {key}", formatted(value), value.get("unit", ""), f"[dim]{escape(value.get('note', ''))}")
    console = Console()
    console.print(table)
    console.print(f"all of it is in {folder / 'evaluate.json'}", soft_wrap=True, highlight=False)


def formatted(value: dict[str, Any]) -> str:
    """A value with its standard error, as many digits as mean something.

    >>> formatted({"value": 98.5123, "standard_error": 0.0312}), formatted({"value": 0.98765})
    ('98.512 ± 0.031', '0.9877')
    """
    number, error = value["value"], value.get("standard_error")
    if error:
        digits = max(0, 1 - int(f"{error:e}".partition("e")[2]))
        return f"{number:.{digits}f} ± {error:.{digits}f}"
    return f"{number:.0f}" if float(number).is_integer() and abs(number) >= 10 else f"{number:#.4g}".rstrip(".")
