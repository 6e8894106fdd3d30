"""A study that several processes share: who gets which trial, what comes of it, and what is left of those who died."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from vae_lightning import objective, status
from vae_lightning.errors import ConfigError
from vae_lightning.search import method, owner
from vae_lightning.search.heart import Heart
from vae_lightning.search.plan import Plan, again, counts
from vae_lightning.search.space import grid, holds
from vae_lightning.search.store import Store
from vae_lightning.sweep.resume import is_resumed
from vae_lightning.sweep.summary import reason

Params = Mapping[str, Any]


class Search:
    """A study, seen from one of the processes that work on it.

    A trial counts from the moment it is given away, whether it is finished, pruned or failed. If its sweep dies, the
    same sweep goes on with it; any other sweep on that host, or after some minutes of silence on any host if the
    storage is a database, fails it as lost, which does not count, and puts its parameters back into the queue.

    Args:
        store: where the study is kept.
        name: of the study.
        plan: what is searched.
        folder: of this sweep; a job's folder in it has the number of its trial.
        spell: the overrides of a job with such parameters.

    Raises:
        ConfigError: the study is about something else.
        UserError: the storage cannot be reached.
    """

    def __init__(self, store: Store, name: str, plan: Plan, folder: Path, spell: Callable[[Params], list[str]]) -> None:
        self.store, self.plan, self.folder, self.spell = store, plan, folder.absolute(), spell
        self.size = sum(1 for _ in grid(plan.space)) if plan.sampler == "grid" else math.inf
        with store.alone():
            self.storage = store.open(stale=again)
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=name,
                directions=[StudyDirection[objective.direction(o).upper()] for o in plan.objectives],
                load_if_exists=True,
                pruner=method.pruner(**plan.pruner),
                sampler=self._sampler(0),
            )
            about = self.study.user_attrs.get("objective")
            if about is None:
                self.study.set_user_attr("objective", plan.objectives)
            elif about != plan.objectives:
                raise ConfigError(
                    f"hydra.sweeper.study_name={name}: this study is about objective={_plain(about)}, not "
                    f"{_plain(plan.objectives)}; say another name"
                )
        self.beating = Heart(self.storage) if isinstance(self.storage, RDBStorage) else None

    @property
    def n_trials(self) -> int:
        """How many there are to be; a grid has an end."""
        return int(min(self.plan.n_trials, self.size))

    def left(self) -> int:
        """How many have not been given away, or to somebody who is gone."""
        return self.n_trials - sum(counts(t) and not self._orphan(t) for t in self.study.get_trials(deepcopy=False))

    def jobs(self) -> Iterator[tuple[int, list[str], bool]]:
        """Number and overrides of one trial after the other, and whether it was begun before, while any is left."""
        while (claimed := self._claim()) is not None:
            trial, begun = claimed
            known = self._after(trial.number) if begun else {}
            if known.get("state") in (status.DONE, status.PRUNED, status.FAILED):
                self.tell(trial.number, None)
            else:
                yield trial.number, self._overrides(trial), begun

    def _overrides(self, trial: FrozenTrial) -> list[str]:
        """Of a job: from values of this search's own space. Whoever wrote the storage may have put anything beside it.

        Raises:
            ConfigError: the trial has none.
        """
        if not all(holds(distribution, trial.params.get(key)) for key, distribution in self.plan.space.items()):
            raise ConfigError(
                f"hydra.sweeper.study_name={self.study.study_name}: trial {trial.number} of this study is none of this "
                "search's space; say another name"
            )
        return self.spell(trial.params)

    def tell(self, number: int, returned: Any) -> None:
        """Record how a job has ended: by its status, or else by what it returned."""
        if self.beating:
            self.beating.stop(self._id(number))
        known = status.read(self.folder / str(number))
        returned = known["result"] if known.get("state") == status.DONE else returned
        values = list(returned) if isinstance(returned, Sequence) else [returned]
        good = len(values) == len(self.plan.objectives) and all(isinstance(v, float | int) for v in values)
        with contextlib.suppress(UpdateFinishedTrialError):  # it was taken for lost
            if known.get("state") == status.PRUNED:
                self.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
            elif good and all(map(math.isfinite, values)):
                self.study.tell(number, values, skip_if_finished=True)
            else:
                told = known.get("state") in (status.FAILED, status.RUNNING)
                why = reason(known) if told else f"it returned {returned}"
                self.storage.set_trial_user_attr(self._id(number), "reason", why)
                self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def close(self) -> None:
        """End what goes on beside the trials."""
        if self.beating:
            self.beating.close()

    def _after(self, number: int) -> dict[str, Any]:
        """The status of a job that was begun before. It may outlive its sweep for a moment."""
        while True:
            known = status.read(self.folder / str(number))
            if known.get("state") != status.RUNNING or owner.ended(known) or known.get("host") != owner.me()["host"]:
                return known
            time.sleep(0.2)

    def _claim(self) -> tuple[FrozenTrial, bool] | None:
        with self.store.alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")
            optuna.storages.fail_stale_trials(self.study)
            begun = self._abandoned()
            number = self._new() if begun is None else begun
            if number is None:
                return None
            self.storage.set_trial_user_attr(self._id(number), "owner", owner.me())
            if self.beating:
                self.beating.start(self._id(number))
            return self.storage.get_trial(self._id(number)), begun is not None

    def _abandoned(self) -> int | None:
        """A trial that this sweep has begun before. What other sweeps have left behind is failed and repeated."""
        for trial in filter(self._orphan, self.study.get_trials(deepcopy=False)):
            if "owner" in trial.user_attrs and self._mine(trial):
                return trial.number
            self.study.tell(trial.number, state=TrialState.FAIL)
            again(self.study, trial)
        return None

    def _orphan(self, trial: FrozenTrial) -> bool:
        """Whether it runs, and who works on it is gone, or was elsewhere when this sweep was resumed here."""
        whose = trial.user_attrs.get("owner")
        if trial.state != TrialState.RUNNING or whose is None:
            return trial.state == TrialState.RUNNING  # died while it claimed the trial
        return owner.ended(whose) or (self._mine(trial) and is_resumed() and whose["host"] != owner.me()["host"])

    def _mine(self, trial: FrozenTrial) -> bool:
        return trial.user_attrs.get("folder") == self._folder(trial.number)

    def _new(self) -> int | None:
        known = self.study.get_trials(deepcopy=False)
        if sum(map(counts, known)) >= self.n_trials:
            return None
        if self.plan.sampler == "grid" and not any(t.state == TrialState.WAITING for t in known):
            used = [t.params for t in known if counts(t)]
            self.study.enqueue_trial(next(point for point in grid(self.plan.space) if point not in used))
        self.study.sampler = self._sampler(len(known))
        try:
            trial = self.study.ask(self.plan.space)
        except ValueError as error:
            raise ConfigError(
                f"hydra.sweeper.study_name={self.study.study_name}: this study has searched another space ({error}); "
                "say another name"
            ) from error
        trial.set_user_attr("folder", self._folder(trial.number))
        trial.set_user_attr("overrides", self.spell(trial.params))
        return trial.number

    def _folder(self, number: int) -> str:
        return str(self.folder / str(number))

    def _sampler(self, n: int) -> optuna.samplers.BaseSampler:
        """As a function of the trials so far, so that a search that goes on, or is shared, repeats no draws."""
        plan = self.plan
        seed = None if plan.sampler_seed is None else plan.sampler_seed * 1_000_003 + n
        return method.sampler(plan.sampler, seed, plan.startup_trials, len(plan.objectives))

    def _id(self, number: int) -> int:
        study = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, number)


def _plain(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"[{','.join(names)}]"
