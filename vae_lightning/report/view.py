"""Runs, rows and cells as the page's template takes them: texts, raw numbers to sort by, and what a pointer finds."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_lightning.report.difference import ABSENT, said
from vae_lightning.report.figure import look
from vae_lightning.report.files import cell, count
from vae_lightning.report.frontier import told
from vae_lightning.report.number import Cell, shown
from vae_lightning.report.part import Part
from vae_lightning.report.rank import described
from vae_lightning.report.run import Run
from vae_lightning.report.svg import inline
from vae_lightning.report.table import Column, Row, Table

View = dict[str, Any]
WIDE = 14  # columns; of a wider table the page shows a part at first
MADE = {"epochs": "{:,}", "seconds": "{:,.0f}", "images_per_second": "{:,.0f}", "parameters": "{:,}", "device": "{}"}


def run_views(runs: Sequence[Run], parts: Sequence[Part]) -> dict[Path, View]:
    """Each run by its folder: the best of each part first, then in the order of the tables."""
    placed = [(run, row, part) for part in parts for row in part.table.rows for run in row.runs]
    placed.sort(key=lambda place: place[0] is not place[2].best.run)
    return {run.folder: _run(run, row, part, runs.index(run)) for run, row, part in placed}


def _run(run: Run, row: Row, part: Part, number: int) -> View:
    column = part.best.column
    score = ""
    if column and run.finished and column.key in run.numbers:
        score = f"{column.name} {shown(run.numbers[column.key].value, column.decimals)}"
    return {
        "anchor": f"run-{number}",
        "name": f"run {run.name}",
        "folder": str(run.folder),
        "seed": said(run.seed),
        "label": f"{row.label}, seed {said(run.seed)}",
        "state": run.state,
        "bad": not run.finished,
        "score": score,
        "files": run.pictures,
        "cells": [_measured(run, c) for c in part.table.columns],
        "made": [_made(run, key) for key in MADE],
        "command": command(run),
    }


def command(run: Run) -> str:
    """The command line that starts a run again."""
    return shlex.join(["python", "-m", "vae_lightning", *run.overrides])


def _made(run: Run, key: str) -> str:
    value = run.results.get(key)
    try:
        return MADE[key].format(value) if value is not None else ABSENT
    except (ValueError, TypeError):
        return said(value)


def _measured(run: Run, column: Column) -> View:
    if not run.finished or column.key not in run.numbers:
        skipped = run.judged.get(column.source, {}).get("skipped", "")
        return {"text": ABSENT, "raw": "", "tip": str(skipped), "best": False}
    number = run.numbers[column.key]
    error = f"standard error {number.error:.2g}" if number.error is not None else ""
    tip = "; ".join(part for part in (f"{number.value!r} {column.unit}".strip(), error, number.note) if part)
    return {"text": shown(number.value, column.decimals), "raw": repr(number.value), "tip": tip, "best": False}


def part_view(part: Part, views: dict[Path, View], number: int) -> View:
    """A part, with the plots as SVG."""
    table, best = part.table, part.best
    sources = Counter(column.source for column in table.columns)
    shown_first = {"test", best.column.source if best.column else ""} if len(table.columns) > WIDE else set(sources)
    rows = [_row(part, row, i, [views[run.folder] for run in row.runs]) for i, row in enumerate(table.rows)]
    found: View = {
        "table": table,
        "best": best,
        "single": len(table.rows) == 1 and len(table.rows[0].runs) == 1,
        "heads": table.keys or ["configuration"],
        "sources": [{"name": _source(s), "width": width, "shown": s in shown_first} for s, width in sources.items()],
        "columns": [_column(c, list(sources).index(c.source)) for c in table.columns],
        "rows": rows,
        "skipped": _skipped(table),
        "told": told(part.families),
        "joined": any(len(family.points) > 1 for family in part.families),
        "frontier": part.frontier and inline(part.frontier, f"p{number}-frontier", "Rate against distortion"),
        "curves": [
            inline(figure, f"p{number}-curve{i}", f"Curves: {name}")
            for i, (name, figure) in enumerate(part.curves.items())
        ],
    }
    if best.column and best.row and best.run:
        winner = best.row.cells[best.column.key]
        seeds = f"mean ± standard deviation of {len(winner.values)} seeds" if winner.std is not None else "a single run"
        found |= {
            "by": described(best.column),
            "best_cell": winner.shown(best.column.decimals),
            "best_unit": f"{best.column.unit}, {seeds}".strip(", "),
            "best_run": views[best.run.folder],
            "best_note": best.run.numbers[best.column.key].note,
            "best_value": shown(best.run.numbers[best.column.key].value, best.column.decimals),
        }
    return found


def _skipped(table: Table) -> list[str]:
    """Metrics that have no meaning for some of the runs."""
    every = [(name, entry.get("skipped")) for row in table.rows for r in row.runs for name, entry in r.judged.items()]
    return [f"{name} ({reason})" for name, reason in dict.fromkeys(every) if reason]


def _source(name: str) -> str:
    return "test, at the end of training" if name == "test" else f"evaluate: {name}"


def _column(column: Column, source: int) -> View:
    return {"name": column.name.replace("_", " "), "unit": column.unit, "tip": _tip(column), "source": source}


def _tip(column: Column) -> str:
    better = f"{column.better} is better" if column.better and not column.caution else ""
    return "; ".join(part for part in (column.note, column.caution, better) if part)


def _row(part: Part, row: Row, index: int, runs: list[View]) -> View:
    how = look(index)
    return {
        "label": row.label,
        "names": [row.settings.get(key, ABSENT) for key in part.table.keys] or [row.label],
        "best": row is part.best.row and len(part.table.rows) > 1,
        "n": len(row.finished),
        "count": count(row),
        "color": how.color,
        "dashes": how.dasharray,
        "runs": runs,
        "cells": [_value(part.table, row, column) for column in part.table.columns],
    }


def _value(table: Table, row: Row, column: Column) -> View:
    some = row.cells.get(column.key)
    having = [run for run in row.finished if column.key in run.numbers]
    tip = _measured(having[0], column)["tip"] if len(having) == 1 else "; ".join(map(repr, some.values if some else ()))
    return {
        "text": cell(row, column.key, column.decimals),
        "raw": repr(some.mean) if some else "",
        "tip": tip,
        "best": some is not None and some is _best(table, column),
    }


def _best(table: Table, column: Column) -> Cell | None:
    """The best cell of a column that ranks, if there is anything to rank."""
    cells = [row.cells[column.key] for row in table.rows if column.key in row.cells]
    if column.better is None or column.caution or len(cells) < 2:
        return None
    return (max if column.better == "higher" else min)(cells, key=lambda cell: cell.mean)
