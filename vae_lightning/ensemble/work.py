"""What runs in the process of an ensemble: jobs, each as it would run in a process of its own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from vae_lightning import signals, status, step
from vae_lightning.ensemble.meeting import Meeting
from vae_lightning.ensemble.step import Shared
from vae_lightning.ensemble.turns import Alone, Turns
from vae_lightning.sweep.process import Order, Told
from vae_lightning.sweep.work import enter, execute, write_to


def work(orders: Sequence[Order], connection: Connection, place: int, places: int) -> None:
    """Runs in the new process."""
    enter(place, places)
    turns = Turns(Meeting())
    with signals.heard():
        turns.run({order.number: partial(_job, order, connection, turns, order is orders[0]) for order in orders})


def _job(order: Order, connection: Connection, turns: Turns, first: bool) -> None:
    """What is printed past Python goes to the file of the first job."""
    step.make.set(partial(Shared, turns))
    folder = Path()

    def redirect(path: Path) -> None:
        nonlocal folder
        folder = path.parent
        if first:
            write_to(path)
        sys.stdout = sys.stderr = path.open("a", buffering=1)

    try:
        execute(order, connection, redirect)
    except Alone as why:
        if not (folder / "checkpoints").exists():  # it has come to nothing yet
            shutil.rmtree(folder)
        status.update(folder, state=status.RUNNING, overrides=status.own(order.overrides), alone=str(why))
        connection.send(Told(order.number, ended=True, alone=str(why)))
