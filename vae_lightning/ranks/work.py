"""One of several processes that train one model, from inside."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any, NamedTuple

from hydra.core.utils import configure_log
from omegaconf import DictConfig

from vae_lightning import child, signals
from vae_lightning.confined import stay_here
from vae_lightning.errors import UserError

HOST = "127.0.0.1"


class Order(NamedTuple):
    """What a process is told."""

    task: Callable[[], Any]
    rank: int
    world: int
    places: int  # as many processes share the cores
    port: int
    environment: dict[str, str]
    job_logging: DictConfig | None


class Done(NamedTuple):
    """The word of a process that has come to its end."""

    value: Any


class Failed(NamedTuple):
    """The word of a process that has not."""

    at: float  # seconds since the epoch
    error: UserError | None
    line: str
    traceback: str
    stopped: str | None = None  # what has become of the work, if a signal has asked to end
    signal: int = 0


def work(order: Order, connection: Connection) -> None:
    """Runs in the new process."""
    child.lead()
    child.write_to(recv_handle(connection), recv_handle(connection))
    meeting = recv_handle(connection) if order.rank == 0 else None
    try:
        store = _arrive(order, meeting)
        with signals.heard():
            word: Done | Failed = Done(order.task())
        _depart()
    except BaseException as error:
        told = error if isinstance(error, UserError) else None
        line = f"{type(error).__name__}: {error}".partition("\n")[0]
        stop = (error.how, error.number) if isinstance(error, signals.Stopped) else ()
        connection.send(Failed(time.time(), told, line, traceback.format_exc(), *stop))
        sys.stdout.flush()
        os._exit(1)  # without waiting for the others
    connection.send(word if order.rank == 0 else Done(None))
    connection.recv()
    del store


def _arrive(order: Order, meeting: int | None) -> Any:
    """Have the environment, the cores and the voice of one of several processes; the first opens where they meet."""
    os.environ.clear()
    os.environ.update(order.environment)
    counts = {"RANK": order.rank, "LOCAL_RANK": order.rank, "GROUP_RANK": 0}
    counts |= {"WORLD_SIZE": order.world, "LOCAL_WORLD_SIZE": order.world, "TORCHELASTIC_RESTART_COUNT": 0}
    os.environ.update({name: str(n) for name, n in counts.items()})
    os.environ.update({"TORCHELASTIC_RUN_ID": "vae_lightning", "TORCHELASTIC_USE_AGENT_STORE": "True"})
    os.environ.update({"MASTER_ADDR": HOST, "MASTER_PORT": str(order.port)})
    stay_here()
    from lightning.fabric.utilities import rank_zero
    from torch.distributed import TCPStore

    from vae_lightning.sweep.share import cores

    cores(order.places)
    only: Any = rank_zero.rank_zero_only  # it was made before there was a number
    only.rank = order.rank
    if order.rank:
        hush()
        child.write_to(os.open(os.devnull, os.O_WRONLY), 2)
    elif order.job_logging is not None:
        configure_log(order.job_logging)
    if meeting is None:
        return None
    return TCPStore(HOST, order.port, is_master=True, wait_for_workers=False, master_listen_fd=meeting)


def _depart() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def hush() -> None:
    """What all processes have to say, the first says; of this one only errors are heard."""
    warnings.simplefilter("ignore")
    logging.getLogger().handlers.clear()
    if logging.lastResort is not None:
        logging.lastResort.setLevel(logging.ERROR)
