"""Optuna's pictures of a study, drawn with matplotlib; one that would have no meaning is left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

MOST = 4  # parameters, the most important ones, in pictures that have a panel or an axis for each
PANEL = 2.6  # inches
LEGEND = 10  # curves that it names
Plot = Callable[..., Any]


def draw(
    study: optuna.Study, names: list[str], importances: Mapping[str, Mapping[str, float]], folder: Path
) -> list[Path]:
    """Write PNGs of `study` into `folder`.

    Args:
        study: with whatever trials it has.
        names: of the objectives.
        importances: of the parameters, for each objective.
        folder: is made if there is something to draw.

    Returns:
        The pictures, nothing if fewer than two trials have come to their end.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < 2:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    from matplotlib import pyplot

    with warnings.catch_warnings(), matplotlib.rc_context({"figure.dpi": 100, "savefig.bbox": "tight"}):
        warnings.simplefilter("ignore", ExperimentalWarning)
        backend = matplotlib.get_backend()
        pyplot.switch_backend("Agg")
        try:
            for name, plot in _plots(study, names, importances).items():
                figure = plot()
                figure.savefig(folder / f"{name}.png")
                pyplot.close(figure)
                paths.append(folder / f"{name}.png")
        finally:
            pyplot.switch_backend(backend)
    return paths


def _plots(
    study: optuna.Study, names: list[str], importances: Mapping[str, Mapping[str, float]]
) -> dict[str, Callable[[], Figure]]:
    """What has a meaning: file name -> what draws it."""
    from optuna.visualization import matplotlib as drawn

    found: dict[str, Callable[[], Figure]] = {}
    several = len(names) > 1
    if len(names) in (2, 3):
        found["pareto_front"] = lambda: _figure(drawn.plot_pareto_front(study, target_names=names))
    for i, name in enumerate(names):
        ranked, end = list(importances[name])[:MOST], f"_{name.replace('/', '_')}" if several else ""
        what: dict[str, Any] = {"target_name": name, "target": partial(_value, i) if several else None}
        found[f"history{end}"] = partial(_one, drawn.plot_optimization_history, study, what)
        if ranked:
            found[f"slice{end}"] = partial(_row, drawn.plot_slice, study, ranked, what)
        if len(ranked) > 1:
            found[f"importances{end}"] = partial(_bars, importances[name], name)
            found[f"parallel{end}"] = partial(_parallel, drawn.plot_parallel_coordinate, study, ranked, what)
            found[f"contour{end}"] = partial(_square, drawn.plot_contour, study, ranked, what)
    if sum(len(t.intermediate_values) > 1 for t in study.get_trials(deepcopy=False)) > 1:
        found["intermediate_values"] = partial(_curves, drawn.plot_intermediate_values, study, names[0])
    return found


def _one(plot: Plot, study: optuna.Study, what: dict[str, Any]) -> Figure:
    return _figure(plot(study, **what))


def _row(plot: Plot, study: optuna.Study, params: list[str], what: dict[str, Any]) -> Figure:
    figure = _figure(plot(study, params, **what))
    figure.set_size_inches(1.5 + PANEL * len(params), 4.2)
    for axes in figure.axes:
        _plain_ticks(axes)
    for axes in figure.axes[: len(params)]:
        _slant(axes)
    return figure


def _square(plot: Plot, study: optuna.Study, params: list[str], what: dict[str, Any]) -> Figure:
    """Labels are at the left and below, and not between the panels."""
    n = len(params)
    figure = _figure(plot(study, params, **what))
    if n > 2:
        figure.set_size_inches(1 + PANEL * n, PANEL * n)
        for i, axes in enumerate(figure.axes[: n * n]):
            axes.set_ylabel(axes.get_ylabel() if i % n == 0 else "")
            axes.set_xlabel(axes.get_xlabel() if i // n == n - 1 else "")
            _plain_ticks(axes)
            _slant(axes)
    return figure


def _parallel(plot: Plot, study: optuna.Study, params: list[str], what: dict[str, Any]) -> Figure:
    figure = _figure(plot(study, params, **what))
    figure.set_size_inches(2 + 1.8 * len(params), 4.8)
    for axes in figure.axes:
        _plain_ticks(axes)
        axes.grid(False)  # one axis's lines mean nothing on another
    return figure


def _plain_ticks(axes: Axes) -> None:
    """Few numbers on logarithmic axes."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            subs = (1, 2, 5) if high < 20 * low else (1, 3) if high < 100 * low else (1,)
            axis.set_major_locator(LogLocator(subs=subs))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


def _slant(axes: Axes) -> None:
    """Numbers and names below an axis at an angle, as there is little room."""
    axes.tick_params("x", labelrotation=30)
    for label in axes.get_xticklabels():
        label.set(ha="right")


def _curves(plot: Plot, study: optuna.Study, name: str) -> Figure:
    axes = plot(study)
    axes.set(title="Trials while they train", xlabel="epochs", ylabel=f"val/{name.partition('/')[2]}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(axes.lines) > LEGEND and axes.get_legend():
        axes.get_legend().remove()
    return _figure(axes)


def _value(i: int, trial: FrozenTrial) -> float:
    return trial.values[i]


def _figure(axes: Any) -> Figure:
    """The figure of one or many axes."""
    return np.ravel(np.asarray(axes, dtype=object))[0].figure


def _bars(importances: Mapping[str, float], name: str) -> Figure:
    """Optuna's own picture would work them out once more, and with another reference."""
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(6.4, 1 + 0.4 * len(importances)))
    names = list(importances)[::-1]
    bars = axes.barh(names, [importances[n] for n in names], color="tab:blue")
    axes.bar_label(bars, fmt="{:.2f}", padding=3)
    axes.set(xlabel=f"importance for {name}", xlim=(0, 1.1 * max(importances.values())))
    return _figure(axes)
