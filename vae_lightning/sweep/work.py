"""What runs in a process of a sweep: a job, as Hydra's own launchers run it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from hydra import version
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, run_job, setup_globals
from omegaconf import DictConfig, open_dict

from vae_lightning import child, signals, status
from vae_lightning.sweep.process import Order, Told
from vae_lightning.sweep.share import cores, gpus


def work(orders: Sequence[Order], connection: Connection, place: int, places: int) -> None:
    """Runs in the new process: one job after the other."""
    enter(place, places)
    with signals.heard():
        for order in orders:
            execute(order, connection, write_to)


def enter(place: int, places: int) -> None:
    """The first thing in a new process."""
    child.lead()
    setup_globals()  # what a folder's name is made of
    if places > 1:
        cores(places)
        gpus(place, places)


def write_to(path: Path) -> None:
    """Add all that this process prints to a file."""
    with path.open("ab") as file:
        child.write_to(file.fileno(), file.fileno())


def execute(order: Order, connection: Connection, redirect: Callable[[Path], None]) -> None:
    """Run a job here, and tell how it ends.

    Args:
        order: of the job.
        connection: to who started this process.
        redirect: lets it print to a file.
    """
    folder = Path(order.config.hydra.sweep.dir) / str(order.number)
    try:
        config = _compose(order)
        folder = (Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        connection.send(Told(order.number, folder))
        redirect(folder / status.OUTPUT)
        returned = run_job(order.task, config, "hydra.sweep.dir", "hydra.sweep.subdir", order.context)
        connection.send(Told(order.number, ended=True, result=returned.return_value))
    except signals.Stopped:  # its status says so
        connection.send(Told(order.number, folder, ended=True))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        status.update(folder, state=status.FAILED, reason=reason)
        with (folder / status.OUTPUT).open("a") as file:
            traceback.print_exc(file=file)
        connection.send(Told(order.number, folder, ended=True, failed=reason))


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
