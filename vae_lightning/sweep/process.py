"""One job of a sweep in a process of its own, from both sides: who starts it, and what runs in it."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from vae_lightning import child, status
from vae_lightning.objective import names
from vae_lightning.sweep.share import cores, gpus

NAN = float("nan")


@dataclass(frozen=True)
class Order:
    """What a job is told."""

    number: int
    overrides: list[str]
    context: HydraContext
    task: TaskFunction
    config: DictConfig


class Process:
    """A job that runs, seen from outside.

    Args:
        order: what to do.
        folder: where its status is expected; the job says if it is elsewhere.
        place: which of the `places` shares of cores and GPUs it gets.
        places: how many jobs run at the same time.
    """

    def __init__(self, order: Order, folder: Path, place: int, places: int) -> None:
        self.number, self.overrides, self.folder = order.number, order.overrides, folder
        self.objective, self.since = order.config.objective, time.time()
        if status.read(folder):  # of an earlier attempt
            status.update(folder, state=status.RUNNING, reason=None)
        context = child.context()
        self.connection, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(order, theirs, place, places), name=f"job {order.number}")
        self.process.start()
        theirs.close()

    @staticmethod
    def ended(running: Mapping[int, Process], seconds: float) -> list[int]:
        """The keys of those that have ended, after at most so many seconds."""
        for job in running.values():
            job._listen()
        by_sentinel = {job.process.sentinel: key for key, job in running.items()}
        return [by_sentinel[s] for s in wait(list(by_sentinel), seconds)]

    def _listen(self) -> None:
        """The first message is the folder, the second the result."""
        while self.connection.poll():
            try:
                message = self.connection.recv()
            except EOFError:
                return
            if isinstance(message, Path):
                self.folder = message
            else:
                self.value = message

    def result(self) -> Any:
        """What an ended job has returned; NaN, and its status says why, if it has not come so far."""
        self.process.join()
        self._listen()
        how = child.fate(self.process.exitcode or 0)
        self._close()
        if hasattr(self, "value"):
            return self.value
        known = status.read(self.folder)
        said = known.get("reason") if known.get("state") == status.FAILED else None
        self._died(status.FAILED, said or how)
        return NAN

    def stop(self) -> None:
        """End it, and all that it has started."""
        child.end(self.process)
        self._listen()
        self._close()
        self._died(status.INTERRUPTED, "interrupted")

    def _close(self) -> None:
        """There may be thousands of jobs."""
        self.connection.close()
        self.process.close()

    def _died(self, state: str, reason: str) -> None:
        told = {"overrides": status.own(self.overrides), "objective": names(self.objective)}
        seconds = round(time.time() - self.since, 3)
        status.update(self.folder, **told, state=state, reason=reason, seconds=seconds)


def _work(order: Order, connection: Connection, place: int, places: int) -> None:
    """Runs in the new process."""
    child.lead()
    if places > 1:
        cores(places)
        gpus(place, places)
    folder = Path(order.config.hydra.sweep.dir) / str(order.number)
    try:
        config = _compose(order)
        folder = (Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        connection.send(folder)
        with (folder / status.OUTPUT).open("ab") as file:
            child.write_to(file.fileno(), file.fileno())
        returned = run_job(order.task, config, "hydra.sweep.dir", "hydra.sweep.subdir", order.context)
        connection.send(returned.return_value)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        status.update(folder, state=status.FAILED, reason=reason)
        with (folder / status.OUTPUT).open("a") as file:
            traceback.print_exc(file=file)
        sys.exit(1)


def _compose(order: Order) -> DictConfig:
    """The configuration of a job, as Hydra's own launchers have it."""
    setup_globals()
    version.setbase("1.3")
    Plugins.instance()
    JobRuntime.instance().set("name", order.config.hydra.job.name)
    config = order.context.config_loader.load_sweep_config(order.config, order.overrides)
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = order.number
    HydraConfig.instance().set_config(config)
    return config
