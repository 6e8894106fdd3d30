"""Hydra's launcher that trains jobs together which differ in numbers alone. Imported at every start: no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from vae_lightning import status
from vae_lightning.override import key
from vae_lightning.schema import Count
from vae_lightning.sweep.launcher import Numbered, ProcessLauncher
from vae_lightning.sweep.process import Order, Process

NUMBER = re.compile(r"(?<![\w.])[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?(?![\w.])", re.IGNORECASE)


class VectorizedLauncher(ProcessLauncher):
    """`hydra/launcher=vectorized`: conf/hydra/launcher/vectorized.yaml says what the arguments mean."""

    def __init__(self, n_jobs: Count = 1, most: Count = 64) -> None:
        super().__init__(n_jobs)
        self.most = most

    @staticmethod
    def work(orders: Sequence[Order], connection: Connection, place: int, places: int) -> None:
        """Runs in the new process."""
        from vae_lightning.ensemble.work import work

        work(orders, connection, place, places)

    def bundles(self, jobs: Iterable[Numbered]) -> Iterator[list[Numbered]]:
        """Jobs that are told the same but for numbers share a process, `most` of them at a time."""
        every = iter(jobs)
        while portion := list(islice(every, self.most)):
            alike: dict[tuple[str, ...], list[Numbered]] = {}
            for job in portion:
                alike.setdefault(kind(job[1]), []).append(job)
            yield from alike.values()

    def start(self, jobs: Sequence[Numbered], place: int) -> Process:
        """Who is the only one of a kind is told why it is."""
        folder = Path(self.config.hydra.sweep.dir) / str(jobs[0][0])
        if len(jobs) == 1 and not status.read(folder).get("alone"):
            status.update(folder, alone="no other job differs from it in numbers alone")
        return super().start(jobs, place)


def kind(overrides: Sequence[str]) -> tuple[str, ...]:
    """What a job is told, without the numbers in it.

    >>> kind(["seed=1", "loss.beta=4.0", "model=conv"]) == kind(["seed=2", "loss.beta=1e-3", "model=conv"])
    True
    """
    told = [o for o in overrides if key(o) != "hydra.sweep.subdir"]
    return tuple(f"{name}={NUMBER.sub('#', value)}" for name, _, value in (o.partition("=") for o in told))
