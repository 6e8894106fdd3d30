"""Several jobs in one thread, of which one at a time has its turn, until it waits for all the others."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TextIO

import rich
import torch
from greenlet import getcurrent, greenlet
from hydra.core.hydra_config import HydraConfig

DEVICES = ("cpu", "cuda")


class Alone(BaseException):
    """Raised in a job that is not to go on here; no `Exception`, as it is no failure of the job. Says why."""


class Scene(NamedTuple):
    """What of the process's state is the job's whose turn it is."""

    stdout: TextIO
    stderr: TextIO
    handlers: list[logging.Handler]
    console: Any  # the one that rich's bars share
    hydra: Any
    dtype: torch.dtype
    autocast: tuple[tuple[bool, torch.dtype], ...]  # of each of DEVICES
    cache: bool  # of autocast

    @classmethod
    def now(cls) -> Scene:
        """What it is at the moment."""
        autocast = tuple((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in DEVICES)
        hydra, handlers = HydraConfig.instance().cfg, logging.root.handlers
        dtype, cache = torch.get_default_dtype(), torch.is_autocast_cache_enabled()
        return cls(sys.stdout, sys.stderr, handlers, rich._console, hydra, dtype, autocast, cache)

    def set(self) -> None:
        """Make it so."""
        sys.stdout, sys.stderr, logging.root.handlers = self.stdout, self.stderr, self.handlers
        rich._console, HydraConfig.instance().cfg = self.console, self.hydra
        torch.set_default_dtype(self.dtype)
        for device, (enabled, dtype) in zip(DEVICES, self.autocast, strict=True):
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(self.cache)


class Turns:
    """Runs jobs, one at a time, and brings together what they wait for.

    >>> turns = Turns(lambda asked: {n: sum(asked.values()) for n in asked})
    >>> heard = []
    >>> turns.run({n: lambda n=n: heard.append((n, turns.wait(10 ** n))) for n in (0, 1)})
    >>> heard
    [(0, 11), (1, 11)]

    Args:
        meet: what each job that has not ended asks for, by its number -> the answers. An answer that is an exception
            is raised in its job.
    """

    def __init__(self, meet: Callable[[dict[int, Any]], dict[int, Any]]) -> None:
        self.meet = meet

    def run(self, jobs: Mapping[int, Callable[[], None]]) -> None:
        """Until all have ended."""
        self.all = getcurrent()
        here = Scene.now()
        going = {number: greenlet(job, self.all) for number, job in jobs.items()}
        scenes = {
            number: here._replace(handlers=[], console=None) for number in jobs
        }  # Hydra empties the list that it finds
        answers: dict[int, Any] = {}
        while going:
            asked = {}
            for number, job in list(going.items()):
                scenes[number].set()
                said = _go_on(job, answers.get(number))
                scenes[number] = Scene.now()
                here.set()
                if job.dead:
                    del going[number]
                else:
                    asked[number] = said
            answers = self.meet(asked) if asked else {}

    def wait(self, asked: Any) -> Any:
        """The answer to `asked`, when every other job has asked too."""
        return self.all.switch(asked)


def _go_on(job: greenlet, answer: Any) -> Any:
    return job.throw(answer) if isinstance(answer, BaseException) else job.switch(*[answer] * bool(job))
