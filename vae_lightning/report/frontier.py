"""Rate against distortion: what a sweep over beta trades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vae_lightning.report.difference import label
from vae_lightning.report.number import Cell, shown
from vae_lightning.report.table import Row, Table

BETA, RATE, DISTORTION = "loss.beta", "test/rate", "test/distortion"


@dataclass(frozen=True)
class Point:
    """A configuration in the plane; nats per image."""

    row: Row
    beta: float | None
    rate: Cell
    distortion: Cell


@dataclass(frozen=True)
class Family:
    """Configurations that differ in beta alone, in its order."""

    label: str
    points: list[Point]

    @property
    def rises(self) -> list[str]:
        """Where more beta does not buy less rate for more distortion, in words."""
        found = []
        for a, b in zip(self.points, self.points[1:], strict=False):
            wrong = []
            if b.rate.mean > a.rate.mean:
                wrong.append(f"the rate rises by {_step(a.rate, b.rate)}")
            if b.distortion.mean < a.distortion.mean:
                wrong.append(f"the distortion falls by {_step(b.distortion, a.distortion)}")
            if wrong:
                found.append(f"from β = {a.beta:g} to β = {b.beta:g} {' and '.join(wrong)}")
        return found

    @property
    def monotone(self) -> bool:
        """Whether the rate never rises, and the distortion never falls, with beta."""
        return not self.rises

    @property
    def words(self) -> str:
        """Whether the frontier is monotone, and between what."""
        a, b = self.points[0], self.points[-1]
        the = f"{self.label}: the" if self.label else "The"
        if rises := self.rises:
            return f"{the} frontier is not monotone: {'; '.join(rises)} nats per image."
        return (
            f"{the} frontier is monotone: from β = {a.beta:g} to β = {b.beta:g} the rate falls at each step, from "
            f"{shown(a.rate.mean, 1)} to {shown(b.rate.mean, 1)} nats per image, and the distortion rises, from "
            f"{shown(a.distortion.mean, 1)} to {shown(b.distortion.mean, 1)}."
        )


def _step(low: Cell, high: Cell) -> str:
    spread = max((cell.std or 0.0) for cell in (low, high))
    size = high.mean - low.mean
    return f"{shown(size, 2)}" + (f" (standard deviation over seeds: {shown(spread, 2)})" if spread else "")


def families(table: Table) -> list[Family]:
    """The points of a table, joined where they differ in beta alone; none if there are fewer than two."""
    found: dict[tuple[tuple[str, str], ...], list[Point]] = {}
    for row in table.rows:
        if RATE in row.cells and DISTORTION in row.cells:
            rest = tuple(sorted((key, value) for key, value in row.settings.items() if key != BETA))
            found.setdefault(rest, []).append(
                Point(row, _number(row.settings.get(BETA)), row.cells[RATE], row.cells[DISTORTION])
            )
    if sum(map(len, found.values())) < 2:
        return []
    keys = [key for key in table.keys if key != BETA]
    return [Family(label(points[0].row.settings, keys), sorted(points, key=_beta)) for points in found.values()]


def _beta(point: Point) -> float:
    return point.beta if point.beta is not None else 0.0


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def told(every: Sequence[Family]) -> list[str]:
    """What to say of the frontier."""
    return [family.words for family in every if len(family.points) > 1]
