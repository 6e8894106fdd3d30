"""What a run folder says of a run. Nothing here needs torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vae_lightning import status
from vae_lightning.errors import ConfigError, first_line
from vae_lightning.paths import expanded
from vae_lightning.resume import by_number, run_folder
from vae_lightning.stranger import read_yaml, texts
from vae_lightning.sweep import summary

LARGEST = 1e15  # numbers beyond are no results, and nothing can be drawn to their scale
Curve = list[tuple[int, float]]  # optimiser steps, value


@dataclass(frozen=True)
class Number:
    """What was measured, once."""

    value: float
    unit: str = ""
    error: float | None = None  # standard error of the value
    note: str = ""
    better: str | None = None  # lower, higher


@dataclass(frozen=True)
class Run:
    """One run, finished or not."""

    folder: Path
    name: str
    config: dict[str, Any]  # dotted key -> value, interpolations as they were written
    choices: dict[str, Any]  # group -> option
    overrides: list[str]
    results: dict[str, Any]
    numbers: dict[str, Number]  # `test/elbo`: what the test found; `likelihood/nll`: what that metric found
    judged: dict[str, dict[str, Any]]  # metric -> its entry in evaluate.json
    curves: dict[str, Curve]
    state: str  # finished, or what happened
    troubles: list[str]  # files that could not be read

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    @property
    def seed(self) -> Any:
        return self.config.get("seed")

    @property
    def pictures(self) -> list[Path]:
        """The figures that were drawn."""
        found = [p for p in (self.folder / "figures").glob("*") if p.suffix in (".png", ".gif") and self._own(p)]
        return sorted(found, key=lambda p: (p.stem == "curves", p.name))

    def _own(self, picture: Path) -> bool:
        """Whether it is a picture, and lies here: what a link leads to is not to be shown to others."""
        if not picture.is_file() or not picture.resolve().is_relative_to(self.folder.resolve()):
            return False
        with picture.open("rb") as file:
            return file.read(4) in (b"\x89PNG", b"GIF8")


def find(paths: Sequence[str]) -> list[Path]:
    """Every run folder among and below `paths`, also of runs that came to nothing, in the order of their numbers.

    Raises:
        ConfigError: there is none in one of them.
    """
    found: list[Path] = []
    for path in paths:
        root = folder_of(path)
        marks = [root] if _is_run(root) else [p.parent for p in root.rglob(".hydra") if _is_run(p.parent)]
        if not marks:
            raise ConfigError(f"{path}: no run in it; a folder with .hydra/config.yaml or results.json was expected")
        found += sorted(marks, key=by_number)
    return list({folder.resolve(): folder for folder in found}.values())


def folder_of(path: str) -> Path:
    """The folder that `path`, which may be a checkpoint, stands for."""
    root = expanded(path)
    return run_folder(root) if root.is_file() else root


def _is_run(folder: Path) -> bool:
    return (folder / ".hydra" / "config.yaml").is_file() or (folder / "results.json").is_file()


def read(folder: Path, name: str) -> Run:
    """A run; a file that is damaged is named in its `troubles`, and counts as not there."""
    troubles: list[str] = []

    def attempt(what: str, reader: Callable[[Path], Any], nothing: Any) -> Any:
        path = folder / what
        if not path.is_file():
            return nothing
        if not path.resolve().is_relative_to(folder.resolve()):
            troubles.append(f"{what} is a link out of the folder, and was left out")
            return nothing
        try:
            return reader(path)
        except Exception as error:  # a stranger may have written anything into it
            troubles.append(f"{what} is damaged and was left out ({first_line(error)})")
            return nothing

    config = attempt(".hydra/config.yaml", lambda path: flat(_mapping(read_yaml(path))), {})
    choices = attempt(".hydra/hydra.yaml", _choices, {})
    overrides = attempt(".hydra/overrides.yaml", lambda path: texts(read_yaml(path), path), [])
    results, tested = attempt("results.json", _results, ({}, {}))
    judged, found = attempt("evaluate.json", _judged, ({}, {}))
    curves = attempt("metrics.csv", _curves, {})
    state = "finished" if tested else _what_happened(folder, config, curves)
    return Run(folder, name, config, choices, overrides, results, {**tested, **found}, judged, curves, state, troubles)


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """Dotted keys.

    >>> flat({"loss": {"beta": 4, "anneal": {}}, "seed": 0})
    {'loss.beta': 4, 'loss.anneal': {}, 'seed': 0}
    """
    if not isinstance(node, dict) or (path and not node):
        return {path: node}
    return {k: v for key, value in node.items() for k, v in flat(value, f"{path}.{key}" if path else str(key)).items()}


def _mapping(node: Any) -> dict[str, Any]:
    if not isinstance(node, dict):
        raise ValueError("keys and values were expected")
    return node


def _choices(path: Path) -> dict[str, Any]:
    chosen = _mapping(read_yaml(path)["hydra"]["runtime"]["choices"])
    return {str(group): option for group, option in chosen.items() if "/" not in str(group)}


def _json(path: Path) -> dict[str, Any]:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no number")

    return dict(json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse))


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        raise ValueError(f"{name} is {value!r}, no finite number"[:200])
    return float(value)


def _results(path: Path) -> tuple[dict[str, Any], dict[str, Number]]:
    results = _json(path)
    tested = {f"test/{key}": Number(_finite(v, f"test.{key}")) for key, v in results["test"].items()}
    return results, tested


def _judged(path: Path) -> tuple[dict[str, Any], dict[str, Number]]:
    judged, found = dict(_json(path)["metrics"]), {}
    for metric, entry in judged.items():
        for key, value in entry.get("values", {}).items():
            name = f"{metric}/{key}"
            error, better = value.get("standard_error"), value.get("better")
            found[name] = Number(
                _finite(value["value"], name),
                str(value.get("unit", "")),
                None if error is None else _finite(error, f"standard error of {name}"),
                str(value.get("note", "")),
                better if better in ("lower", "higher") else None,
            )
    return judged, found


def _curves(path: Path) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if text and name != "step":
                    step = int(_finite(int(row["step"]), "step"))
                    curves.setdefault(name, []).append((step, _finite(float(text), name)))
    return curves


def _what_happened(folder: Path, config: dict[str, Any], curves: dict[str, Curve]) -> str:
    """Why there are no results, as far as the folder knows."""
    if (folder / "results.json").is_file():
        return "results.json is damaged"
    known = status.read(folder)
    if known.get("state") == status.FAILED:
        return f"failed: {summary.reason(known)}"
    if known.get("state") == status.PRUNED:
        return f"ended early by a search: {summary.reason(known)}"
    last = max((curve[-1] for name, curve in curves.items() if name == "train/epoch"), default=(0, -1.0))
    return (
        f"no results: stopped, or still running, after epoch {int(last[1]) + 1} of {config.get('trainer.max_epochs')}"
    )
