"""Hydra's launcher that gives every job of a sweep a process of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae_lightning import status
from vae_lightning.schema import Count
from vae_lightning.sweep.process import Order, Process
from vae_lightning.sweep.progress import Progress
from vae_lightning.sweep.resume import is_resumed

Overrides = Sequence[str]


class ProcessLauncher(Launcher):
    """`hydra/launcher=process`: a job that raises, exits or is killed does not touch the others.

    Processes are forked from a server that has imported torch and lightning, so that a job starts at once; the server
    and this process use no device.

    Args:
        n_jobs: jobs at the same time. Cores are shared out among them, and GPUs if there are several.
    """

    def __init__(self, n_jobs: Count = 1) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Overrides], initial_job_idx: int) -> list[JobReturn]:
        """Runs them all; what a job returned is NaN if it failed."""
        jobs = list(enumerate(job_overrides, initial_job_idx))
        same = set.intersection(*map(set, job_overrides)) if len(jobs) > 1 else set()
        ended = dict(self.stream(jobs, len(jobs), same))
        return [ended[number] for number, _ in jobs]

    def stream(
        self, jobs: Iterable[tuple[int, Overrides]], n: int | None = None, same: Collection[str] = ()
    ) -> Iterator[tuple[int, JobReturn]]:
        """Each job's number and what it returned, as it ends. The next is asked for when there is a place for it.

        Args:
            jobs: numbers and overrides.
            n: how many, where it is known.
            same: overrides that need not be shown, as all jobs have them.
        """
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(self.config.hydra.sweep.dir)
        waiting = iter(jobs)
        running: dict[int, Process] = {}  # by place
        with Progress(n, folder, same) as progress:
            try:
                while True:
                    while len(running) < self.n_jobs and (job := next(waiting, None)) is not None:
                        number, overrides = job
                        known = status.read(folder / str(number)) if is_resumed() else {}
                        if known.get("state") == status.DONE:
                            progress.ended(number, overrides, known)
                            yield number, _returned(overrides, known["result"])
                            continue
                        place = min(set(range(self.n_jobs)) - running.keys())
                        order = Order(number, list(overrides), self.context, self.task, self.config)
                        running[place] = Process(order, folder / str(number), place, self.n_jobs)
                        progress.started(number, overrides)
                    if not running:
                        return
                    for place in Process.ended(running, seconds=0.3):
                        process = running.pop(place)
                        result = process.result()
                        progress.ended(process.number, process.overrides, status.read(process.folder))
                        yield process.number, _returned(process.overrides, result)
                    for process in running.values():
                        progress.goes_on(process.number, status.read(process.folder))
            finally:
                for process in running.values():  # whatever ends the sweep early, ends its jobs
                    process.stop()


def _returned(overrides: Overrides, result: Any) -> JobReturn:
    return JobReturn(overrides=list(overrides), _return_value=result, status=JobStatus.COMPLETED)
