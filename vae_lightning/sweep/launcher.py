"""Hydra's launcher that gives every job of a sweep a process of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae_lightning import status
from vae_lightning.schema import Count
from vae_lightning.sweep.process import Order, Process, Work
from vae_lightning.sweep.progress import Progress
from vae_lightning.sweep.resume import is_resumed
from vae_lightning.sweep.work import work

Overrides = Sequence[str]
Numbered = tuple[int, Overrides]  # a job


class ProcessLauncher(Launcher):
    """`hydra/launcher=process`: a job that raises, exits or is killed does not touch the others.

    Processes are forked from a server that has imported torch and lightning, so that a job starts at once; the server
    and this process use no device.

    Args:
        n_jobs: jobs at the same time. Cores are shared out among them, and GPUs if there are several.
    """

    work: Work = staticmethod(work)  # what runs in the process of several jobs

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
        self, jobs: Iterable[Numbered], n: int | None = None, same: Collection[str] = ()
    ) -> Iterator[tuple[int, JobReturn]]:
        """Each job's number and what it returned, as it ends. The next is asked for when there is a place for it.

        Args:
            jobs: numbers and overrides.
            n: how many, where it is known.
            same: overrides that need not be shown, as all jobs have them.
        """
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(self.config.hydra.sweep.dir)
        bundles, single = self.bundles(jobs), deque[Numbered]()
        running: dict[int, Process] = {}  # by place
        with Progress(n, folder, same) as progress:
            try:
                while True:
                    while len(running) < self.n_jobs:
                        bundle = [single.popleft()] if single else next(bundles, [])
                        if not bundle:
                            break
                        done = {number: known for number, _ in bundle if (known := _done(folder / str(number)))}
                        for number, overrides in bundle:
                            if number in done:
                                progress.ended(number, overrides, done[number])
                                yield number, _returned(overrides, done[number]["result"])
                        if left := [(number, overrides) for number, overrides in bundle if number not in done]:
                            place = min(set(range(self.n_jobs)) - running.keys())
                            running[place] = self.start(left, place)
                            for number, overrides in left:
                                progress.started(number, overrides)
                    if not running:
                        return
                    Process.wait(running.values(), seconds=0.3)
                    for place, process in list(running.items()):
                        for job, told in process.ended():
                            number, overrides = job.order.number, job.order.overrides
                            if told.alone is not None:
                                single.append((number, overrides))
                                progress.put_off(number, overrides, told.alone)
                                continue
                            progress.ended(number, overrides, status.read(job.folder))
                            yield number, _returned(overrides, told.result)
                        if process.over:
                            del running[place]
                        for number, job in process.jobs.items():
                            progress.goes_on(number, status.read(job.folder))
            finally:
                Process.end(running.values())  # whatever ends the sweep early, ends its jobs

    def bundles(self, jobs: Iterable[Numbered]) -> Iterator[list[Numbered]]:
        """Which jobs share a process: each has its own."""
        return ([job] for job in jobs)

    def start(self, jobs: Sequence[Numbered], place: int) -> Process:
        """A process for these jobs."""
        orders = [Order(n, list(overrides), self.context, self.task, self.config) for n, overrides in jobs]
        return Process(work if len(orders) == 1 else self.work, orders, place, self.n_jobs)


def _done(folder: Path) -> dict[str, Any]:
    """The status of a job that has ended well before this sweep was resumed."""
    known = status.read(folder) if is_resumed() else {}
    return known if known.get("state") == status.DONE else {}


def _returned(overrides: Overrides, result: Any) -> JobReturn:
    return JobReturn(overrides=list(overrides), _return_value=result, status=JobStatus.COMPLETED)
