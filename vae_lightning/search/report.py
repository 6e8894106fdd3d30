"""What a search has found: on the console, in `search.json`, and as pictures."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from vae_lightning.atomic import write_json
from vae_lightning.search import plot
from vae_lightning.search.plan import lost

NAME, FIGURES = "search.json", "search"
SHOWN = 20  # trials of a Pareto front on the console


def tell(study: optuna.Study, address: str, n_trials: int, folder: Path) -> None:
    """Print what was best, and write `search.json` and pictures into the folder of a sweep.

    Args:
        study: as far as it is.
        address: of its storage, without a password.
        n_trials: how many it is to have.
        folder: of the sweep.
    """
    found = summary(study, address, n_trials)
    write_json(folder / NAME, found)
    figures = plot.draw(study, found["objective"], found["importances"], folder / FIGURES)
    out = Console(soft_wrap=True, highlight=False, markup=False)
    out.print("\n".join(_lines(found)))
    if figures:
        out.print(f"{folder / NAME}, and {len(figures)} pictures in {folder / FIGURES}")


def summary(study: optuna.Study, address: str, n_trials: int) -> dict[str, Any]:
    """Everything in `search.json`: the study, its best trial or its Pareto front, importances, counts of states."""
    trials = study.get_trials(deepcopy=False)
    states = Counter("lost" if lost(t) else t.state.name.lower() for t in trials)
    names = study.user_attrs["objective"]
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    front = sorted(study.best_trials, key=lambda t: t.values[0]) if len(names) > 1 else study.best_trials[:1]
    return {
        "study": study.study_name,
        "storage": address,
        "n_trials": n_trials,
        "states": dict(sorted(states.items())),
        "objective": names,
        "directions": [d.name.lower() for d in study.directions],
        "best": [_described(t) for t in front],
        "importances": {name: _importances(study, done, i) for i, name in enumerate(names)},
    }


def _described(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "values": trial.values,
        "params": trial.params,
        "folder": trial.user_attrs.get("folder"),
        "overrides": trial.user_attrs.get("overrides"),
    }


def _importances(study: optuna.Study, done: list[FrozenTrial], i: int) -> dict[str, float]:
    """The part of the variation of an objective that goes with each parameter; empty where nothing varies."""
    varied = {name for t in done for name in t.params if t.params[name] != done[0].params.get(name)}
    if len({t.values[i] for t in done}) < 2 or not varied:
        return {}
    sign = -1 if study.directions[i] == StudyDirection.MAXIMIZE else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes")  # for low values: hence the sign
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=lambda t: sign * t.values[i],
        )
    return {name: float(value) for name, value in found.items() if name in varied}


def _lines(found: dict[str, Any]) -> list[str]:
    states = ", ".join(f"{count} {state}" for state, count in found["states"].items())
    lines = [f"study {found['study']} in {found['storage']}: {states or 'no trials'}"]
    if not found["best"]:
        return [*lines, "no trial has come to its end"]
    several = len(found["objective"]) > 1
    lines.append(f"{len(found['best'])} trials that none is better than in everything:" if several else "best:")
    for best in found["best"][:SHOWN]:
        values = "  ".join(
            f"{name} {value:.2f}" for name, value in zip(found["objective"], best["values"], strict=True)
        )
        params = " ".join(f"{key}={_short(value)}" for key, value in best["params"].items())
        lines.append(f"  {values}  {params}  in {best['folder']}")
    if len(found["best"]) > SHOWN:
        lines.append(f"  and {len(found['best']) - SHOWN} more")
    for name, importances in found["importances"].items():
        if len(importances) > 1:
            said = ", ".join(f"{key} {value:.0%}" for key, value in importances.items())
            lines.append(f"what {name} depends on: {said}")
    return lines


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
