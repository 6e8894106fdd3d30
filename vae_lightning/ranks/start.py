"""Several processes on this machine that train one model: they are started, waited for, and end together."""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.reduction import send_handle
from typing import Any, NamedTuple

from omegaconf import DictConfig

from vae_lightning import child, signals
from vae_lightning.errors import ConfigError
from vae_lightning.ranks.place import place
from vae_lightning.ranks.work import HOST, Failed, Order, work

GRACE = 1.0  # seconds in which the others may say what they know, after one has failed
FAREWELL = 30.0  # seconds for leaving, after everything is done


class RankError(RuntimeError):
    """One of the processes has failed, and with it the run."""


class Elsewhere(Exception):
    """The traceback of another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Silent(NamedTuple):
    """What is seen of a process that has ended without a word."""

    how: str


def processes(trainer: DictConfig) -> int:
    """How many processes this one has to start for a Trainer of this configuration; 1 if it is to train itself.

    Raises:
        ConfigError: several nodes are asked for, and nobody has started a process on each.
    """
    if place() is not None:
        return 1
    if trainer.num_nodes > 1:
        n = trainer.num_nodes
        raise ConfigError(
            f"trainer.num_nodes={n}: say on each node: torchrun --nnodes {n} --nproc-per-node <devices> --rdzv-backend "
            "c10d --rdzv-endpoint <first node>:29500 -m vae_lightning …, or use srun in a job of Slurm"
        )
    devices = trainer.devices
    if isinstance(devices, str):
        if devices in ("auto", "-1"):
            return _gpus() if trainer.accelerator in ("auto", "gpu", "cuda") else 1
        devices = [part for part in devices.split(",") if part] if "," in devices else devices
        return len(devices) if isinstance(devices, list) else int(devices) if devices.isdigit() else 1
    return devices if isinstance(devices, int) else len(devices)


def _gpus() -> int:
    """Counted without touching any."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return max(1, torch.cuda.device_count())  # none: Lightning says so


def together(
    task: Callable[[], Any], world: int, places: int | None = None, job_logging: DictConfig | None = None
) -> Any:
    """What `task` returns in the first of `world` processes that all call it.

    They meet at a port of this machine that nobody else can have, and have the variables that torchrun would set. The
    first has this process's output and, if given, its `job_logging`; the others are not heard. If one fails all end, as
    they do with this process, however it ends. If a signal asks this process to end, so are they asked.

    Args:
        task: can be pickled.
        world: how many processes.
        places: how many processes share the cores of this machine; more if other runs are at work.
        job_logging: Hydra's, for the first process.

    Raises:
        UserError: as one of them has raised it.
        RankError: one of them has failed otherwise; its traceback is the cause.
        Stopped: a signal has asked this process, or one of them, to end.
    """
    ranks: list[_Rank] = []

    def ask(number: int) -> None:
        for each in ranks:
            child.ask(each.process, number)

    try:
        with signals.patient(ask):
            with socket.create_server((HOST, 0)) as meeting:
                port = meeting.getsockname()[1]
                for rank in range(world):
                    order = Order(task, rank, world, places or world, port, dict(os.environ), job_logging)
                    ranks.append(_Rank(order, meeting))
            _listen(ranks)
            _blame(ranks)
        for each in reversed(ranks):  # the first has what the others meet at
            each.release()
        return ranks[0].word.value
    finally:
        for each in ranks:
            each.kill()


class _Rank:
    """A process, seen from outside."""

    def __init__(self, order: Order, meeting: socket.socket) -> None:
        context = child.context()
        self.number = order.rank
        self.word: Any = None
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(order, theirs), name=f"rank {order.rank}")
        sys.stdout.flush()
        self.process.start()
        theirs.close()
        for handle in (1, 2, *([meeting.fileno()] if order.rank == 0 else [])):
            send_handle(self.connection, handle, self.process.pid)

    def listen(self) -> None:
        """Take its word, if it has said one or never will."""
        try:
            if self.connection.poll():
                self.word = self.connection.recv()
                return
        except (EOFError, ConnectionResetError):
            self.process.join(GRACE)
        code = self.process.exitcode
        if code is not None:
            self.word = Silent(child.fate(code))

    def release(self) -> None:
        self.connection.send(None)
        self.process.join(FAREWELL)

    def kill(self) -> None:
        child.end(self.process)
        self.connection.close()


def _listen(ranks: Sequence[_Rank]) -> None:
    """Until all have said their word; not for long after one has failed, or after all were asked to end."""
    deadline: float | None = None
    while open_ := [r for r in ranks if r.word is None]:
        if deadline is None and signals.asked():
            deadline = time.monotonic() + signals.PATIENCE
        patience = GRACE if deadline is None else max(0.0, deadline - time.monotonic())
        ready = wait([x for r in open_ for x in (r.connection, r.process.sentinel)], min(patience, GRACE))
        if not ready and patience == 0:
            return
        for rank in open_:
            if rank.connection in ready or rank.process.sentinel in ready:
                rank.listen()
        if any(isinstance(r.word, Failed | Silent) for r in ranks):
            deadline = min(deadline or math.inf, time.monotonic() + GRACE)


def _blame(ranks: Sequence[_Rank]) -> None:
    """Who has failed first: what is said in words, whom others miss, who misses others, whom that has made abort."""
    if (number := signals.asked()) is not None:
        raise signals.Stopped(number, next(filter(None, (getattr(r.word, "stopped", None) for r in ranks)), ""))
    failed = sorted((_order(r.word), r.number) for r in ranks if isinstance(r.word, Failed | Silent))
    if not failed:
        return
    number = failed[0][1]
    word, who = ranks[number].word, f"process {number} of {len(ranks)}"
    if isinstance(word, Silent):
        raise RankError(f"{who}: {word.how}")
    if word.stopped is not None:
        raise signals.Stopped(word.signal, word.stopped)
    if word.error is not None:
        raise word.error
    raise RankError(f"{who}: {word.line}") from Elsewhere(word.traceback)


def _order(word: Failed | Silent) -> tuple[int, float]:
    if isinstance(word, Silent):
        return (3 if word.how.endswith("SIGABRT") else 1), 0.0
    if word.stopped is not None:
        return 4, word.at
    return (0 if word.error is not None else 2), word.at
