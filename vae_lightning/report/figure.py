"""Curves and the frontier, drawn with matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae_lightning.report.frontier import Family, Point
from vae_lightning.report.run import Curve
from vae_lightning.report.table import Row, Table
from vae_lightning.units import NATS, UNITS

INK = "#010203"  # the colour of text: near black on white; where a page has colours of its own, it takes the page's
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#888888")
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
POINTS = 300  # of a curve, at most
LONGEST = 40  # letters of a name in a figure
FIRST = ("val/elbo", "val/distortion", "val/rate", "train/loss")
TITLES = {"elbo": "ELBO", "loss": "loss, each run's own objective"}
HIDDEN = ("val/bits_per_dim", "val/loss")  # the ELBO again; the ELBO with a weight


@dataclass(frozen=True)
class Look:
    """How a configuration is drawn."""

    color: str
    dash: Any  # as matplotlib has it

    @property
    def dasharray(self) -> str:
        """The same in SVG."""
        return "" if isinstance(self.dash, str) else ",".join(str(2 * length) for length in self.dash[1])


LOOKS = [Look(color, dash) for dash, color in product(DASHES, OKABE_ITO)]


def look(index: int) -> Look:
    """The look of the configuration of this number; they repeat after 28."""
    return LOOKS[index % len(LOOKS)]


@contextmanager
def style(size: float) -> Iterator[None]:
    """Quiet axes, text of `size` points; `$` in a name is a dollar, and not the beginning of a formula."""
    settings: Any = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
        "text.parse_math": False,
        "font.size": size,
        "axes.titlesize": size + 1,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#808080",
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "axes.unicode_minus": True,
    }
    with matplotlib.rc_context(settings):
        yield


# ---- curves ---------------------------------------------------------------------------------------------------------
def panels(table: Table) -> list[str]:
    """The names of the curves to draw, the ones that everybody looks for first."""
    present = dict.fromkeys(name for row in table.rows for run in row.runs for name in run.curves)
    more = sorted(name for name in present if name.startswith("val/") and name not in (*FIRST, *HIDDEN))
    return [name for name in (*FIRST, *more) if name in present]


def curves(table: Table, name: str) -> Figure:
    """One measure while the runs train: for each configuration the mean and the band of its finished runs."""
    figure = Figure(figsize=(5.6, 3.5), layout="constrained")
    axes = figure.subplots()
    seen: Curve = []
    for i, row in enumerate(table.rows):
        finished = [run.curves[name] for run in row.finished if name in run.curves]
        cut_short = [run.curves[name] for run in row.runs if not run.finished and name in run.curves]
        seen += _band(axes, finished, look(i))
        for curve in cut_short:
            steps, heights = zip(*_thinned(curve), strict=True)
            axes.plot(steps, heights, color=look(i).color, linestyle="dotted", linewidth=1)
            axes.plot(steps[-1], heights[-1], marker="x", color=look(i).color, markersize=6)
            seen += curve
    if seen:
        values = _later(seen)
        margin = 0.05 * (max(values) - min(values)) or 1.0
        axes.set_ylim(min(values) - margin, max(values) + margin)
    stage, _, term = name.partition("/")
    where = {"val": "validation", "train": "training"}.get(stage, stage)
    title = f"{where} {TITLES.get(term, _short(term.replace('_', ' ')))}"
    axes.set(title=title[0].upper() + title[1:], xlabel="optimiser steps", ylabel=UNITS.get(term, ""))
    return figure


def _band(axes: Axes, every: Sequence[Curve], how: Look) -> Curve:
    """Mean and standard deviation over curves, at the steps that all have; returns their corners."""
    if not every:
        return []
    tables = [dict(curve) for curve in every]
    steps = [step for step, _ in every[0] if all(step in table for table in tables)]
    means = _thinned([(step, statistics.fmean(table[step] for table in tables)) for step in steps])
    if not means:
        return []
    x, y = zip(*means, strict=True)
    marker = "o" if len(x) == 1 else ""
    axes.plot(x, y, color=how.color, linestyle=how.dash, linewidth=1.6, marker=marker)
    if len(every) == 1:
        return means
    spread = [statistics.stdev(table[step] for table in tables) for step in x]
    low, high = ([m + sign * s for m, s in zip(y, spread, strict=True)] for sign in (-1, 1))
    axes.fill_between(x, low, high, color=how.color, alpha=0.2, linewidth=0)
    return [*zip(x, low, strict=True), *zip(x, high, strict=True)]


def _thinned(curve: Curve) -> Curve:
    every = -(-len(curve) // POINTS)
    return curve[::-1][:: max(every, 1)][::-1]  # the last one stays


def _later(curve: Curve) -> list[float]:
    """Without the first steps, which would flatten the rest."""
    last = max(step for step, _ in curve)
    return [value for step, value in curve if step > 0.05 * last]


# ---- frontier -------------------------------------------------------------------------------------------------------
def frontier(table: Table, every: Sequence[Family]) -> Figure:
    """Rate against distortion with error bars over seeds, joined in the order of beta, and lines of equal ELBO."""
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.subplots()
    alone = sum(len(family.points) > 1 for family in every) <= 1
    for i, family in enumerate(every):
        colors = [look(_index(table, p.row) if alone else i).color for p in family.points]
        name = "" if alone else _short(family.label)
        x, y = (
            [cell.mean for cell in cells]
            for cells in zip(*((p.rate, p.distortion) for p in family.points), strict=True)
        )
        axes.plot(x, y, color="#808080" if alone else colors[0], linewidth=1.4, zorder=1, label=name)
        for point, color in zip(family.points, colors, strict=True):
            _point(axes, point, color, f"β = {point.beta:g}" if len(family.points) > 1 else point.row.label)
    axes.margins(0.12, 0.12)
    axes.set(
        title="Rate and distortion of test images",
        xlabel=f"rate, KL(q(z|x) || p(z)), {NATS}",
        ylabel=f"distortion, −E log p(x|z), {NATS}",
    )
    if table.setting.density:
        _equal_elbo(axes)
    if not alone:
        figure.legend(loc="outside lower center", ncols=3 if max(len(f.label) for f in every) < 25 else 1)
    return figure


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _index(table: Table, row: Row) -> int:
    return next(i for i, other in enumerate(table.rows) if other is row)


def _point(axes: Axes, point: Point, color: str, text: str) -> None:
    axes.errorbar(
        point.rate.mean,
        point.distortion.mean,
        xerr=point.rate.std,
        yerr=point.distortion.std,
        color=color,
        marker="o",
        markersize=7,
        capsize=2,
        elinewidth=1.2,
    )
    where = (point.rate.mean, point.distortion.mean)
    axes.annotate(_short(text), where, xytext=(8, 7), textcoords="offset points").set_in_layout(False)


def _equal_elbo(axes: Axes) -> None:
    """Lines of slope -1: on each of them the ELBO is the same."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for total in MaxNLocator(8).tick_values(left + bottom, right + top):
        if not left + bottom < total < right + top:
            continue
        axes.axline(
            (left, total - left), slope=-1, color="#808080", linewidth=0.8, alpha=0.7, linestyle=(0, (2, 3)), zorder=0
        )
        x = left + 0.015 * (right - left)
        if total - x > top - 0.02 * (top - bottom):  # it enters from above, where points lie: told on the right
            x = right - 0.12 * (right - left)
        if bottom + 0.05 * (top - bottom) < total - x < top - 0.02 * (top - bottom):
            text = axes.text(x, total - x, f"ELBO {-total:g}".replace("-", "−"), size="x-small", alpha=0.75)
            text.set(rotation=-45, rotation_mode="anchor", transform_rotates_text=True, va="bottom", clip_on=True)
    axes.set(xlim=(left, right), ylim=(bottom, top))
