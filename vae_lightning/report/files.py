"""The tables of the page as CSV and Markdown."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_lightning.atomic import replaced
from vae_lightning.report.difference import ABSENT, said
from vae_lightning.report.rank import Best
from vae_lightning.report.table import Row, Table

Section = tuple[Table, Best, list[str]]  # and what is said of the frontier


def write_configurations(tables: Sequence[Table], path: Path) -> None:
    """A row per configuration: mean, standard deviation (empty for a single run) and number of runs of each measure."""
    keys, columns = _heads(tables)
    rows: list[dict[str, Any]] = []
    for table in tables:
        for row in table.rows:
            line: dict[str, Any] = {"comparable": table.setting.name, "configuration": row.label}
            line |= {key: row.settings[key] for key in keys if key in row.settings}
            line |= {"runs": len(row.runs), "finished": len(row.finished)}
            for key, cell in row.cells.items():
                line |= {key: cell.mean, f"{key} std": cell.std, f"{key} n": len(cell.values)}
            rows.append(line)
    measured = [name for key in columns for name in (key, f"{key} std", f"{key} n")]
    _write(["comparable", "configuration", *keys, "runs", "finished", *measured], rows, path)


def write_runs(tables: Sequence[Table], path: Path) -> None:
    """A row per run."""
    keys, columns = _heads(tables)
    rows: list[dict[str, Any]] = []
    for table in tables:
        for row in table.rows:
            for run in row.runs:
                line: dict[str, Any] = {"comparable": table.setting.name, "configuration": row.label, "run": run.name}
                line |= {key: row.settings[key] for key in keys if key in row.settings}
                line |= {"seed": said(run.seed), "state": run.state}
                line |= {key: number.value for key, number in run.numbers.items()}
                rows.append(line)
    _write(["comparable", "configuration", "run", *keys, "seed", "state", *columns], rows, path)


def _heads(tables: Sequence[Table]) -> tuple[list[str], list[str]]:
    keys = dict.fromkeys(key for table in tables for key in table.keys)
    return list(keys), list(dict.fromkeys(column.key for table in tables for column in table.columns))


def _write(head: Sequence[str], rows: Sequence[dict[str, Any]], path: Path) -> None:
    with replaced(path, newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, head, restval="")
        writer.writerow({key: typed(key) for key in head})
        writer.writerows({key: typed(value) for key, value in row.items()} for row in rows)


def typed(value: Any) -> Any:
    """What a spreadsheet would take for a formula, with a mark that it is text.

    >>> typed("=1+1"), typed("-1e-3"), typed("mlp"), typed(-2.0)
    ("'=1+1", '-1e-3', 'mlp', -2.0)
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def cell(row: Row, key: str, digits: int) -> str:
    """A cell as the page and the Markdown show it; the number of runs where not all of them have it."""
    if key not in row.cells:
        return ABSENT
    some = row.cells[key]
    lacking = "" if len(some.values) == len(row.finished) else f" (n = {len(some.values)})"
    return some.shown(digits) + lacking


def markdown(title: str, sections: Sequence[Section], notices: Sequence[str]) -> str:
    """The tables, what is best, and what to mind."""
    lines = [f"# {plain(title)}", "", *(f"> {plain(notice)}\n" for notice in notices)]
    for table, best, told in sections:
        lines += [f"## {plain(table.setting.name)}", "", plain(best.words), "", *_grid(table, best), ""]
        lines += [f"{plain(sentence)}\n" for sentence in told]
    return "\n".join(lines).rstrip() + "\n"


def _grid(table: Table, best: Best) -> list[str]:
    keys = table.keys or ["configuration"]
    head = [*keys, "n", *(column.key for column in table.columns)]
    lines = [head, ["---"] * len(keys) + ["--:"] * (1 + len(table.columns))]
    for row in table.rows:
        named = [row.settings.get(key, ABSENT) for key in table.keys] or [row.label]
        cells = [plain(cell(row, column.key, column.decimals)) for column in table.columns]
        if row is best.row:
            at = [column.key for column in table.columns].index(best.column.key)  # type: ignore[union-attr]
            cells[at] = f"**{cells[at]}**"
        lines.append([*map(plain, named), count(row), *cells])
    return ["| " + " | ".join(line) + " |" for line in [list(map(plain, head)), *lines[1:]]]


def count(row: Row) -> str:
    """How many of the runs of a configuration have results."""
    return str(len(row.finished)) if len(row.finished) == len(row.runs) else f"{len(row.finished)} of {len(row.runs)}"


def plain(text: str) -> str:
    """Text that means itself in Markdown.

    >>> plain("a|b <i> *c*")
    'a\\\\|b &lt;i&gt; \\\\*c\\\\*'
    """
    text = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in text)
