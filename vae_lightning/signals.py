"""Signals that ask a command to end. It does so at once; while it trains, after the step that it is in."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
NOBODY = (signal.SIG_DFL, signal.default_int_handler)  # handles a signal
PATIENCE = 20.0  # seconds that a process is given to save its state: Slurm gives thirty


class Stopped(SystemExit):
    """The command was asked to end: it does with 128 + the number of the signal, as a shell tells it.

    Args:
        number: of the signal.
        how: what has become of the work, for people.
    """

    def __init__(self, number: int, how: str = "") -> None:
        super().__init__(128 + number)
        self.number, self.how = number, how

    def __str__(self) -> str:
        return f"{signal.Signals(self.number).name}{f': {self.how}' if self.how else ''}"


class _Ear:
    """What this process has heard, and what it makes of it."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self.listens = self.patient = self.quiet = False
        self.tell: list[Callable[[int], Any]] = []

    def hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:  # it is on its way: torchrun and Slurm may ask in several ways
            return
        self.asked = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever presses Ctrl-C once more does not want to wait
        for tell in self.tell:
            tell(number)
        if not self.patient:
            raise Stopped(number)
        if not self.quiet:  # past Python's buffers, which may be in use at this very moment
            os.write(2, f"\n{signal.Signals(number).name}: ends after this step; Ctrl-C ends it at once\n".encode())


_ear = _Ear()


def asked() -> int | None:
    """The signal that has asked this process to end; None if there was none."""
    return _ear.asked


@contextmanager
def heard() -> Iterator[None]:
    """Inside, signals end this process by `Stopped`; who handles one of them already, as submitit does, keeps it."""
    if _ear.listens or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ASKING}
    mine = [number for number, handler in before.items() if handler in NOBODY]
    for number in mine:
        signal.signal(number, _ear.hear)
    _ear.listens = True
    try:
        yield
    finally:
        _ear.listens, _ear.asked = False, None
        for number in mine:
            signal.signal(number, before[number])


@contextmanager
def patient(tell: Callable[[int], Any] | None = None) -> Iterator[None]:
    """Inside, a signal is only remembered: who works there asks for it, and ends where it can. It ends here at last.

    Args:
        tell: is called with the number of a signal at the moment that it comes.

    Raises:
        Stopped: a signal has come, and the work inside has come to its end all the same.
    """
    before, _ear.patient = _ear.patient, True
    if tell is not None:
        _ear.tell.append(tell)
    try:
        yield
    finally:
        _ear.patient = before
        if tell is not None:
            _ear.tell.remove(tell)
    if _ear.asked is not None and not before:
        raise Stopped(_ear.asked)


def begin_anew() -> None:
    """Called in a new process: what its parent has heard is not its own, and its parent speaks for it."""
    global _ear
    _ear = _Ear()
    _ear.quiet = True
    for number in ASKING:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
