"""The trial that a job is: named to it through the environment, wherever its launcher runs it."""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict, dataclass
from typing import Any

from vae_lightning.errors import UserError

log = logging.getLogger("vae_lightning")

VARIABLE = "VAE_LIGHTNING_TRIAL"


class Pruned(UserError):
    """A trial that is not worth going on with; the message says when and why."""


@dataclass(frozen=True)
class Name:
    """Where a trial is kept, and how it is judged.

    Args:
        address: of the storage, without a password.
        study: its name.
        number: of the trial.
        pruner: the arguments of `vae_lightning.search.method.pruner`.
    """

    address: str
    study: str
    number: int
    pruner: dict[str, Any]

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def named() -> Name | None:
    """What this process was told.

    >>> os.environ[VARIABLE] = str(Name("search.journal", "search", 3, {"name": "median"}))
    >>> named()
    Name(address='search.journal', study='search', number=3, pruner={'name': 'median'})
    >>> del os.environ[VARIABLE]
    >>> named() is None
    True
    """
    said = os.environ.get(VARIABLE)
    return Name(**json.loads(said)) if said else None


class Judge:
    """What a trial reports to its study, and what the study says to it. It connects when it is made.

    A server that is away for a while ends no training: the trial goes on.

    Args:
        name: of the trial.
    """

    def __init__(self, name: Name) -> None:
        import optuna

        from vae_lightning.search import method
        from vae_lightning.search.store import Store

        self.storage = Store(name.address).open()
        sampler = optuna.samplers.RandomSampler()  # nothing is proposed here
        self.study = optuna.load_study(
            study_name=name.study, storage=self.storage, sampler=sampler, pruner=method.pruner(**name.pruner)
        )
        study = self.storage.get_study_id_from_name(name.study)
        self.trial = self.storage.get_trial_id_from_study_id_trial_number(study, name.number)

    def unworthy(self, step: int, value: float) -> bool:
        """Report `value` after `step` epochs, once, and ask whether the trial is to end."""
        from optuna.exceptions import StorageInternalError

        try:
            known = self.storage.get_trial(self.trial)
            if step not in known.intermediate_values and math.isfinite(value):
                self.storage.set_trial_intermediate_value(self.trial, step, value)
                known = self.storage.get_trial(self.trial)
            return self.study.pruner.prune(self.study, known)
        except StorageInternalError as error:
            log.warning("epoch %d is not reported to the study, and the trial goes on: %s", step, error)
            return False
