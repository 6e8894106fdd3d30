"""Runs that can be compared, with all that is to be shown of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure

from vae_lightning.report import figure
from vae_lightning.report.frontier import Family, families
from vae_lightning.report.rank import Best, best_of
from vae_lightning.report.setting import Setting
from vae_lightning.report.table import Table, tabulate


@dataclass(frozen=True)
class Part:
    """A table with its winner, and what is drawn from it."""

    table: Table
    best: Best
    families: list[Family]

    @classmethod
    def of(cls, setting: Setting, by: str | None) -> Part:
        """Everything about a setting. Arguments and errors are those of `best_of`."""
        table = tabulate(setting)
        best = best_of(table, by)
        if first := best.column:  # what ranks comes first, with what was measured together with it
            table.columns.sort(key=lambda column: column.source != first.source)
        return cls(table, best, families(table))

    @cached_property
    def frontier(self) -> Figure | None:
        """Rate against distortion, if there are two configurations that have both."""
        with figure.style(11):
            return figure.frontier(self.table, self.families) if self.families else None

    @cached_property
    def curves(self) -> dict[str, Figure]:
        """What was logged in training, by its name."""
        with figure.style(9):
            return {name: figure.curves(self.table, name) for name in figure.panels(self.table)}
