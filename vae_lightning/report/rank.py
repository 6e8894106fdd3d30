"""Which configuration and which run are best, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vae_lightning.errors import ConfigError
from vae_lightning.report.run import Run
from vae_lightning.report.table import Column, Row, Table

AUTOMATIC = ("nll", "elbo", "loss", "distortion")  # the first of these that all have and that compares them


@dataclass(frozen=True)
class Best:
    """The best of a table, if there is one."""

    column: Column | None
    row: Row | None  # by the mean over its seeds
    run: Run | None  # by its own value; with luck, that of another row
    remarks: str  # what to mind, or why there is none

    @property
    def words(self) -> str:
        """Which, by what, and what to mind."""
        if self.column is None or self.row is None:
            return self.remarks
        mean = self.row.cells[self.column.key].shown(self.column.decimals)
        return f"Best by {named(self.column)}: {self.row.label}, {mean} {self.column.unit}. {self.remarks}".strip()


def best_of(table: Table, by: str | None) -> Best:
    """The best configuration and the best run of a table.

    Args:
        by: a column's name, `elbo` or `likelihood/elbo`, or None: nll where all have it, else the test ELBO.

    Raises:
        ConfigError: neither more nor less of it is better.
    """
    finished = [run for row in table.rows for run in row.finished]
    if not finished:
        return Best(None, None, None, "No run has results.")
    if by is not None:
        column = _asked(table, by)
        if column is None:
            return Best(None, None, None, f"No run has {by}.")
    else:
        automatic = [found for name in AUTOMATIC if (found := _common(table, name, finished))]
        if not automatic:
            return Best(None, None, None, "No measure ranks these configurations; choose one with by=<column>.")
        column = automatic[0]
    sign = -1 if column.better == "higher" else 1
    row = min((r for r in table.rows if column.key in r.cells), key=lambda r: sign * r.cells[column.key].mean)
    run = min((r for r in finished if column.key in r.numbers), key=lambda r: sign * r.numbers[column.key].value)
    return Best(column, row, run, _remarks(table, column, finished))


def _asked(table: Table, by: str) -> Column | None:
    for column in table.columns:
        if by in (column.key, column.name) and any(column.key in row.cells for row in table.rows):
            if column.better is None:
                raise ConfigError(f"by={by}: neither more nor less of it is better; say by=elbo")
            return column
    return None


def _common(table: Table, name: str, finished: Sequence[Run]) -> Column | None:
    """A column of this name that each finished run has, and that ranks."""
    for column in table.columns:
        ranks = column.name == name and column.better and not column.caution
        if ranks and all(column.key in run.numbers for run in finished):
            return column
    return None


def _remarks(table: Table, column: Column, finished: Sequence[Run]) -> str:
    missing = sum(column.key not in run.numbers for run in finished)
    said = []
    if missing:
        said.append(f"{missing} of {len(finished)} finished runs do not have it, and take no part.")
    if column.caution:
        said.append(f"Mind: {column.caution}.")
    known = sum(any(key.endswith("/nll") for key in run.numbers) for run in finished)
    if column.name == "elbo" and known:
        same = "; not all were judged alike" if known == len(finished) else ""
        said.append(f"The log-likelihood was estimated for {known} of {len(finished)} runs{same}.")
    return " ".join(said)


def described(column: Column) -> str:
    """`test ELBO; higher is better`: what a column is, where it comes from, and how it ranks."""
    return f"{named(column)}; {column.better} is better"


def named(column: Column) -> str:
    """`test ELBO`, or `estimated negative log-likelihood (likelihood/nll in evaluate.json)`."""
    name = {"elbo": "ELBO", "nll": "estimated negative log-likelihood"}.get(column.name, column.name.replace("_", " "))
    return f"test {name}" if column.source == "test" else f"{name} ({column.key} in evaluate.json)"
