"""Hydra's sweeper that searches with Optuna. Hydra imports it at every start, so that Optuna is imported later."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from vae_lightning import command_line, objective, status
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.override import quoted
from vae_lightning.schema import Count, Fraction, NonNegativeInt
from vae_lightning.search.trial import VARIABLE, Name
from vae_lightning.sweep.resume import VARIABLE as RESUME

if TYPE_CHECKING:
    from vae_lightning.search.study import Search

log = logging.getLogger("vae_lightning")


class OptunaSweeper(Sweeper):
    """`hydra/sweeper=optuna`: conf/hydra/sweeper/optuna.yaml says what the arguments mean."""

    def __init__(
        self,
        n_trials: Count = 20,
        n_jobs: Count = 1,
        sampler: Literal["tpe", "cmaes", "random", "grid"] = "tpe",
        sampler_seed: NonNegativeInt | None = 0,
        startup_trials: Count = 5,
        pruner: Literal["none", "median", "percentile", "hyperband", "halving"] = "median",
        warmup_epochs: Count | None = None,
        keep: Fraction = 0.25,
        study_name: str = "search",
        storage: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.n_trials, self.n_jobs, self.startup_trials = n_trials, n_jobs, startup_trials
        self.sampler, self.sampler_seed = sampler, sampler_seed
        self.pruner: dict[str, Any] = {
            "name": pruner,
            "startup_trials": startup_trials,
            "warmup_epochs": warmup_epochs,
            "keep": keep,
        }
        self.study_name, self.storage, self.params = study_name, storage, dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context: HydraContext = hydra_context
        self.composed: DictConfig = config
        self.starter: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Give away trials until there are enough of them, and say what was best. Errors in words end the program."""
        try:
            return self._sweep(arguments)
        except UserError as error:
            print(f"vae_lightning: {error}", file=sys.stderr)
            sys.exit(error.exit_code)

    def _sweep(self, arguments: Sequence[str]) -> list[JobReturn]:
        if importlib.util.find_spec("optuna") is None:
            raise UserError('hydra/sweeper=optuna: pip install "vae-lightning[search]"')
        from vae_lightning.search import report
        from vae_lightning.search.store import Store

        folder = Path(self.composed.hydra.sweep.dir)
        store = Store(self.storage, folder)
        search = self._search(arguments, store, folder)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.composed, folder / "multirun.yaml")
        ended = []
        try:
            for number, job in self._ended(search, store):
                search.tell(number, job.return_value if job.status == JobStatus.COMPLETED else None)
                ended.append(job)
        finally:
            search.close()
        report.tell(search.study, store.address, search.n_trials, folder)
        return ended

    def _search(self, arguments: Sequence[str], store: Any, folder: Path) -> Search:
        from vae_lightning.search import method
        from vae_lightning.search.plan import Plan
        from vae_lightning.search.space import space, spelled
        from vae_lightning.search.study import Search

        parse = OverridesParser.create(config_loader=self.context.config_loader).parse_overrides
        given = parse(list(arguments))
        mine = parse([f"{key}={value}" for key, value in self.params.items()])
        mine = [o for o in mine if o.key_or_group not in {g.key_or_group for g in given}]
        said = ["hydra/sweeper=optuna", *(o.input_line or "" for o in [*mine, *given])]
        if wrong := command_line.check(said, self._searchpath(), True):
            raise ConfigError("; ".join(wrong))
        overrides, objectives = [*mine, *given], objective.names(self.composed.objective)
        searched, max_epochs = space(overrides), self.composed.trainer.max_epochs
        pruner = {**self.pruner, "max_epochs": max_epochs}
        pruner["warmup_epochs"] = pruner["warmup_epochs"] or method.warmup(pruner["name"], max_epochs)
        if len(objectives) > 1 and pruner["name"] != "none":
            log.warning("no trial is pruned: there are %d objectives", len(objectives))
            pruner["name"] = "none"
        plan = Plan(
            objectives, searched, self.n_trials, self.sampler, self.sampler_seed, self.startup_trials, pruner=pruner
        )
        return Search(store, self.study_name, plan, folder, lambda params: spelled(overrides, params, searched))

    def _searchpath(self) -> list[str]:
        """Folders with more options than the package's."""
        sources = self.composed.hydra.runtime.config_sources
        return [s.path for s in sources if s.schema == "file" and s.provider == "command-line"]

    def _ended(self, search: Search, store: Any) -> Iterator[tuple[int, JobReturn]]:
        """The jobs as they end: from a launcher that takes one whenever there is a place, or in batches."""
        jobs = ((n, self._told(search, store, n, overrides, begun)) for n, overrides, begun in search.jobs())
        if hasattr(self.starter, "stream"):
            yield from self.starter.stream(jobs, search.left())
            return
        while batch := list(islice(jobs, self.n_jobs)):
            numbers = [number for number, _ in batch]
            try:
                returned = self.starter.launch([overrides for _, overrides in batch], numbers[0])
            except Exception as error:  # some launchers give up on a batch where one of its jobs was killed
                if not any(status.read(search.folder / str(number)) for number in numbers):
                    raise
                log.error("%s: %s", type(error).__name__, error)
                returned = [JobReturn() for _ in batch]
            yield from zip(numbers, returned, strict=True)

    def _told(self, search: Search, store: Any, number: int, overrides: list[str], begun: bool) -> list[str]:
        """What a job is told beside its settings: its folder, its trial if that may be pruned, and to go on."""
        told = [*overrides, f"hydra.sweep.subdir='{number}'"]
        if search.plan.pruner["name"] != "none":
            name = Name(store.address, search.study.study_name, number, search.plan.pruner)
            told.append(f"++hydra.job.env_set.{VARIABLE}={quoted(name)}")
        if begun:
            told.append(f"++hydra.job.env_set.{RESUME}='1'")
        return told
