"""Jobs of a sweep in a process of their own, mostly one, seen from outside."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae_lightning import child, signals, status
from vae_lightning.objective import names

NAN = float("nan")


@dataclass(frozen=True)
class Order:
    """What a job is told."""

    number: int
    overrides: list[str]
    context: HydraContext
    task: TaskFunction
    config: DictConfig


@dataclass
class Job:
    """A job that runs, seen from outside."""

    order: Order
    folder: Path  # where its status is expected, until the job says where it is


@dataclass(frozen=True)
class Told:
    """What a job says of itself: where it is, and at its end how that was."""

    number: int
    folder: Path | None = None
    ended: bool = False
    result: Any = NAN
    failed: str | None = None  # why it did not even begin
    alone: str | None = None  # why it is to be run in a process of its own


Work = Callable[[Sequence[Order], Connection, int, int], None]  # orders, where to tell, which share of how many


class Process:
    """Jobs that run in one process, seen from outside.

    Args:
        work: what runs there.
        orders: of the jobs.
        place: which of the `places` shares of cores and GPUs it gets.
        places: how many processes run at the same time.
    """

    def __init__(self, work: Work, orders: Sequence[Order], place: int, places: int) -> None:
        self.since, self.over = time.time(), False
        self.jobs = {o.number: Job(o, Path(o.config.hydra.sweep.dir) / str(o.number)) for o in orders}
        again = {"state": status.RUNNING, "reason": None, **({"alone": None} if len(orders) > 1 else {})}
        for job in self.jobs.values():
            if status.read(job.folder):  # of an earlier attempt
                status.update(job.folder, **again)
        context = child.context()
        self.connection, theirs = context.Pipe(duplex=False)
        name = f"job {', '.join(map(str, self.jobs))}"
        self.process = context.Process(target=work, args=(orders, theirs, place, places), name=name)
        self.process.start()
        theirs.close()

    @staticmethod
    def wait(running: Collection[Process], seconds: float) -> None:
        """Until one has ended, or so many seconds."""
        wait([p.process.sentinel for p in running], seconds)

    def ended(self) -> Iterator[tuple[Job, Told]]:
        """The jobs that have ended since this was asked last; then `over`, if the process has."""
        dead = self.process.exitcode is not None
        for told in self._heard():
            job = self.jobs.pop(told.number)
            if told.failed is not None:
                self._died(job, status.FAILED, told.failed)
            yield job, told
        if not dead:
            return
        self.process.join()
        how = child.fate(self.process.exitcode or 0)
        for number in list(self.jobs):
            job = self.jobs.pop(number)
            known = status.read(job.folder)
            if known.get("state") != status.INTERRUPTED:
                said = known.get("reason") if known.get("state") == status.FAILED else None
                self._died(job, status.FAILED, said or how)
            yield job, Told(number, ended=True)
        self._close()

    def _heard(self) -> Iterator[Told]:
        while not self.over and self.connection.poll():
            try:
                told: Told = self.connection.recv()
            except EOFError:
                return
            if told.folder is not None:
                self.jobs[told.number].folder = told.folder
            if told.ended:
                yield told

    @staticmethod
    def end(running: Collection[Process]) -> None:
        """End them, and all that they have started. If a signal is the reason, it is theirs too, and they have time to
        save what they have."""
        if (number := signals.asked()) is not None:
            print("the jobs that run are given time to save what they have; Ctrl-C ends them at once", file=sys.stderr)
            for process in running:
                child.ask(process.process, number)
            deadline = time.monotonic() + signals.PATIENCE
            for process in running:
                process.process.join(max(0.0, deadline - time.monotonic()))
        for process in running:
            process._end()

    def _end(self) -> None:
        child.end(self.process)
        for told in self._heard():
            del self.jobs[told.number]
        for job in self.jobs.values():
            if status.read(job.folder).get("state") != status.INTERRUPTED:  # which says more
                self._died(job, status.INTERRUPTED, "interrupted")
        self._close()

    def _close(self) -> None:
        """There may be thousands of jobs."""
        self.over = True
        self.connection.close()
        self.process.close()

    def _died(self, job: Job, state: str, reason: str) -> None:
        told = {"overrides": status.own(job.order.overrides), "objective": names(job.order.config.objective)}
        seconds = round(time.time() - self.since, 3)
        status.update(job.folder, **told, state=state, reason=reason, seconds=seconds)
