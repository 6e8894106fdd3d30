"""Processes that are started, watched and ended with all that they have started themselves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from vae_lightning import signals

PRELOAD = ["vae_lightning.train", "vae_lightning.job", "matplotlib.pyplot", "sklearn.manifold", "sklearn.datasets"]
_leads = False


def context() -> Any:
    """How to start one: from a server that has imported what takes long, and touched no device.

    A process that has come from that server, and has started nothing yet, is such a server itself: see `lead`.
    """
    if _leads:
        return multiprocessing.get_context("fork")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOAD)
    return server


def lead() -> None:
    """Called first in a new process: it gets a group of its own, and ends with its parent, however that ends."""
    global _leads
    _leads = True
    signals.begin_anew()
    os.setsid()  # Ctrl-C is for who started it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Nobody is left to tell the result to."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


def write_to(output: int, errors: int) -> None:
    """Print to these file descriptors, a line at a time."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def ask(process: BaseProcess, number: int) -> None:
    """Send it this signal, if it is still there; may be called while a signal is handled."""
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def end(process: BaseProcess) -> None:
    """End it at once, and all that it has started."""
    if process.exitcode is None:
        try:
            os.killpg(process.pid or 0, signal.SIGKILL)
        except ProcessLookupError:  # it has no group of its own yet, or is no more
            process.kill()
        process.join()


def fate(exit_code: int) -> str:
    """How a process has ended, in words.

    >>> fate(-9), fate(3)
    ('killed by SIGKILL', 'ended with exit code 3')
    """
    return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit code {exit_code}"
