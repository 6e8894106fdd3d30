"""What is searched, and which of a study's trials count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from vae_lightning.search.space import Space


@dataclass(frozen=True)
class Plan:
    """What is searched, and how: see conf/hydra/sweeper/optuna.yaml."""

    objectives: list[str]
    space: Space
    n_trials: int
    sampler: str
    sampler_seed: int | None
    startup_trials: int
    pruner: dict[str, Any]


def counts(trial: FrozenTrial) -> bool:
    """Whether it is one of the study's trials; not if it waits, or was lost with its sweep."""
    return trial.state != TrialState.WAITING and not lost(trial)


def lost(trial: FrozenTrial) -> bool:
    """Whether it failed without a reason of its own."""
    return trial.state == TrialState.FAIL and "reason" not in trial.user_attrs


def again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put the parameters of a lost trial back into the queue; one that died before it had any leaves a free place."""
    if trial.params:
        study.enqueue_trial(trial.params, user_attrs={"repeats": trial.number})
