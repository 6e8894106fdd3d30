"""One row per configuration: means and standard deviations over seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vae_lightning.report.difference import label, said, settings, split, telling
from vae_lightning.report.number import Cell, decimals
from vae_lightning.report.run import Run
from vae_lightning.report.setting import Setting, names
from vae_lightning.units import UNITS

MEANING = {
    "loss": "what was minimised",
    "elbo": "-(distortion + rate): a lower bound on log p(x), without any weight",
    "distortion": "-E log p(x|z)",
    "rate": "KL(q(z|x) || p(z))",
}
BETTER = {
    **dict.fromkeys(("loss", "distortion", "bits_per_dim"), "lower"),
    **dict.fromkeys(("elbo", "accuracy"), "higher"),
}  # of the test's results; metrics say it themselves


@dataclass(frozen=True)
class Column:
    """A measure."""

    key: str  # `test/elbo`
    unit: str
    note: str
    better: str | None  # lower, higher, or None: neither
    caution: str  # why its values do not rank these configurations; empty where they do
    decimals: int

    @property
    def source(self) -> str:
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        return self.key.partition("/")[2]


@dataclass(frozen=True)
class Row:
    """A configuration with all its seeds."""

    label: str
    settings: dict[str, str]
    runs: list[Run]
    cells: dict[str, Cell]

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.finished]


@dataclass(frozen=True)
class Table:
    """Runs that can be compared, and what was measured of them."""

    setting: Setting
    keys: list[str]  # what tells the rows apart
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def tabulate(setting: Setting) -> Table:
    """The table of a setting; rows in the order of what tells them apart."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in setting.runs:
        groups.setdefault(tuple(sorted(settings(run).items())), []).append(run)
    every = [settings(members[0]) for members in groups.values()]
    keys = telling(every, {group for run in setting.runs for group in run.choices})
    rows = [
        Row(label(one, keys) or _of_single(members[0]), one, members, _cells(members))
        for one, members in zip(every, groups.values(), strict=True)
    ]
    rows.sort(key=lambda row: [natural(row.settings.get(key, "")) for key in keys])
    measured = dict.fromkeys(key for run in setting.runs for key in run.numbers)
    ordered = sorted(measured, key=lambda key: not key.startswith("test/"))
    return Table(setting, keys, [_column(key, rows) for key in ordered], rows, _notes(rows))


def _of_single(run: Run) -> str:
    """What a configuration that differs from no other is called."""
    chosen = [o for o in run.overrides if not o.startswith(("seed=", "hydra.", "ckpt=", "trainer.enable_progress_bar"))]
    return ", ".join(chosen) or "the default configuration"


def _cells(runs: Sequence[Run]) -> dict[str, Cell]:
    runs = [run for run in runs if run.finished]
    keys = dict.fromkeys(key for run in runs for key in run.numbers)
    return {key: Cell(tuple(run.numbers[key].value for run in runs if key in run.numbers)) for key in keys}


def _column(key: str, rows: Sequence[Row]) -> Column:
    numbers = [run.numbers[key] for row in rows for run in row.runs if key in run.numbers]
    source, _, name = key.partition("/")
    cells = [row.cells[key] for row in rows if key in row.cells]
    return Column(
        key,
        numbers[0].unit or (UNITS.get(name, "") if source == "test" else ""),
        MEANING.get(name, "") if source == "test" else "",
        numbers[0].better or (BETTER.get(name) if source == "test" else None),
        _caution(source, name, rows),
        decimals(cells),
    )


def _caution(source: str, name: str, rows: Sequence[Row]) -> str:
    every = [row.settings for row in rows]
    if source == "test" and name == "loss":
        own = [key for key in split(every)[1] if key.partition(".")[0] in ("loss", "beta")]
        return f"each configuration minimises a loss of its own ({names(own)} differ)" if own else ""
    if name == "distortion" and any(f"{source}/rate" in row.cells for row in rows):
        return "it can be bought with rate: look at the frontier"
    ways = dict.fromkeys(said(_way(run, source)) for row in rows for run in row.runs if source in run.judged)
    return f"not judged alike: {names(ways)}" if len(ways) > 1 else ""


def _way(run: Run, metric: str) -> Any:
    return run.judged[metric].get("settings", {})


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    for row in rows:
        seeds = [run.seed for run in row.finished]
        twice = dict.fromkeys(said(seed) for seed in seeds if seeds.count(seed) > 1)
        if twice:
            notes.append(
                f"{row.label}: seed {names(twice)} was run more than once; all of these runs count, and make the "
                "spread over seeds look smaller than it is"
            )
    return notes


def natural(text: str) -> tuple[Any, ...]:
    """A sorting key: numbers by their value, then words; what is absent first.

    >>> sorted(["10", "9", "0.5", "conv", "1e-3", ""], key=natural)
    ['', '1e-3', '0.5', '9', '10', 'conv']
    """
    if not text:
        return (0, 0.0, "")
    try:
        return (1, float(text), "")
    except ValueError:
        return (2, 0.0, re.sub(r"\d+", lambda digits: digits[0].zfill(12), text))
