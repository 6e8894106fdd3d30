"""Charts over time: the terms of the loss, and the rate of each variable of z."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from vae_lightning.picture.canvas import BLUE, ORANGE, RED, canvas, styled
from vae_lightning.picture.subject import Subject
from vae_lightning.units import UNITS

NATS = ("critic", "fooling", "total_correlation", "mutual_information", "dimension_rate", "code_entropy")
ACTIVE = 0.01  # variance of the mean over images, above which a variable is in use
BARS = 40  # with their names


class Measured(NamedTuple):
    """What the variables of z were worth at one moment."""

    step: int  # of the optimiser
    rates: list[float]  # nats, the mean over images
    variances: list[float]  # over images, of the mean of q(z | x)


def measure(subject: Subject, step: int) -> Measured | None:
    """The rate of each variable, and how far its mean goes; None where variables have no rates of their own."""
    found = subject.encoded
    if found.rates is None or found.rates.isnan().any():
        return None
    mean = found.mean.flatten(1)
    variances = [mean[:, v.first : v.first + v.size].var(0, correction=0).sum().item() for v in found.variables]
    return Measured(step, found.rates.mean(0).tolist(), variances)


def active(variances: Sequence[float]) -> int:
    """How many variables are in use. Burda et al. (2016), arXiv:1509.00519, section 5.2.

    >>> active([1.0, 0.02, 0.001])
    2
    """
    return sum(variance > ACTIVE for variance in variances)


@styled
def rates(history: Sequence[Measured]) -> Figure | None:
    """The rate of each variable of z over time, and at the end."""
    if not history:
        return None
    last = history[-1]
    looks = [_look(variance) for variance in last.variances]
    ranked = sorted(range(len(looks)), key=lambda i: -last.rates[i])
    figure = canvas(550)
    time, end = figure.subplots(1, 2, width_ratios=(3, 2))
    for rank, i in enumerate(ranked):
        color, hatch, label = looks[i]
        points = [(each.step, each.rates[i]) for each in history]
        time.plot(*zip(*points, strict=True), color=color, ls="--" if hatch else "-", marker="o", markersize=3)
        end.bar(rank, last.rates[i], color=color, hatch=hatch, label=label)
    time.set(title="Over time", xlabel="optimiser steps", ylabel="KL(q || p) of one variable, nats per image")
    if len(ranked) <= BARS:
        end.set_xticks(range(len(ranked)), [str(i) for i in ranked], rotation=90 * (len(ranked) > 12))
    end.set(
        title=f"At the end: {sum(last.rates):.1f} nats in all",
        xlabel="index of the variable, by KL",
        ylabel="nats per image",
    )
    handles = {name: handle for handle, name in zip(*end.get_legend_handles_labels(), strict=True)}
    if active(last.variances) < len(looks):
        end.legend(handles.values(), handles, loc="upper right")
    for axes in (time, end):
        axes.set_ylim(0)
    count = f"{active(last.variances)} of {len(looks)} units active"
    title = f"KL of each variable of z: {count} (variance of E[z | x] over images above {ACTIVE})"
    figure.suptitle(title, fontsize=14, x=0.01, ha="left")
    return figure


def _look(variance: float) -> tuple[str, str, str]:
    """Colour, hatch and name."""
    return (BLUE, "", "active") if variance > ACTIVE else (ORANGE, "//", "not active")


@styled
def curves(metrics: Path) -> Figure | None:
    """Training and validation curves of what a `metrics.csv` holds; None if there is none."""
    if not metrics.is_file():
        return None
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = [name for name in UNITS if f"val/{name}" in rows[0] and name != "bits_per_dim"]
    terms = [name.removeprefix("val/") for name in rows[0] if name.startswith("val/")]
    names = [*first, *(name for name in terms if name not in UNITS)]
    lines = math.ceil(len(names) / 2)
    figure = canvas(400 * lines)
    for i, name in enumerate(names):
        axes = figure.add_subplot(lines, 2, i + 1)
        shown = []
        for stage, color, marker in (("train", BLUE, ""), ("val", RED, "o")):
            points = [(int(r["step"]), float(r[f"{stage}/{name}"])) for r in rows if r.get(f"{stage}/{name}")]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=4, label=stage)
            shown += [v for step, v in points if step > 0.05 * points[-1][0]]  # the first steps would flatten the rest
        margin = 0.05 * (max(shown) - min(shown)) or 1.0
        axes.set_ylim(min(shown) - margin, max(shown) + margin)
        axes.set(title=name.replace("_", " "), xlabel="optimiser steps")
        axes.set_ylabel(UNITS.get(name, "nats" if name in NATS else ""))
        axes.legend()
    return figure
