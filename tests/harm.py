"""A command line to which harm is done: `python -m harm <signal>@<place>:<n>/<whom> <file> <module> <arguments>`.

When a process comes to that place for the n-th time, a signal is sent: to itself, or to `rank<k>` of several (by
itself), `main` (by its child, a job or the first rank), the `group` of main, as a terminal does, or `twice` to itself.
The places: `data` (read), `minibatch` (the optimiser has stepped), `validation` or `test` (a portion was evaluated),
`epoch` (one has ended, and its checkpoints are not yet written), `start` (a new one begins), `draw` (a trained model
has been used). `save` counts, in the saves of checkpoints, every moment before and after something is done to a file.
Every minibatch of training adds a line to the file, if one is named: its number, and numbers by which its examples are
known.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from vae_lightning import atomic, whole
from vae_lightning.callback.stop import Stop
from vae_lightning.checkpoint import AtomicCheckpointIO
from vae_lightning.data.images import Images
from vae_lightning.data.loader import Minibatch
from vae_lightning.lit import LitVAE
from vae_lightning.model.vae import VAE

PLACES = {
    "minibatch": (LitVAE, "end"),
    "validation": (LitVAE, "validation_step"),
    "test": (LitVAE, "test_step"),
    "epoch": (LitVAE, "on_train_epoch_end"),
    "start": (Stop, "on_train_epoch_start"),
    "data": (Images, "__init__"),
    "draw": (VAE, "generate"),
}


class Harm:
    """Counts how often a place was passed."""

    def __init__(self, number: int, at: int, whom: str = "") -> None:
        self.number, self.left, self.whom = number, at, whom

    def __call__(self) -> None:
        rank = os.environ.get("RANK", "0")
        if rank != (self.whom.removeprefix("rank") if self.whom.startswith("rank") else "0"):
            return
        self.left -= 1
        if self.left:
            return
        if self.whom == "main":
            os.kill(os.getppid(), self.number)
        elif self.whom == "group":
            os.killpg(os.getpgid(os.getppid()), self.number)
        else:
            for _ in range(2 if self.whom == "twice" else 1):
                os.kill(os.getpid(), self.number)

    def after(self, owner: Any, name: str) -> None:
        """Passed whenever this method has returned."""
        method = getattr(owner, name)

        @wraps(method)
        def harmed(*args: Any, **how: Any) -> Any:
            result = method(*args, **how)
            self()
            return result

        setattr(owner, name, harmed)

    def in_saves(self) -> None:
        """Passed before and after each thing that is done to a file while a checkpoint is saved."""
        save = AtomicCheckpointIO.save_checkpoint

        def saving(*args: Any, **how: Any) -> None:
            done = {name: getattr(os, name) for name in ("fsync", "replace")}
            digest = whole.Hashed.digest
            try:
                for name, call in done.items():
                    setattr(atomic.os, name, self._around(call))
                whole.Hashed.digest = self._around(digest)
                save(*args, **how)
            finally:
                whole.Hashed.digest = digest
                for name, call in done.items():
                    setattr(atomic.os, name, call)

        AtomicCheckpointIO.save_checkpoint = saving

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any) -> Any:
            self()
            result = call(*args)
            self()
            return result

        return around


def see(path: Path) -> None:
    """Every minibatch of training leaves a line in this file."""
    begin = LitVAE.begin

    def seen(lit: LitVAE, batch: Minibatch) -> None:
        with path.open("a") as file:
            print(batch.number, *batch.x.flatten(1).double().sum(1).tolist(), file=file)
        begin(lit, batch)

    LitVAE.begin = seen


if __name__ == "__main__":
    wanted, file, module = sys.argv[1:4]
    sys.argv[1:] = sys.argv[4:]
    if wanted != "none":
        name, _, where = wanted.partition("@")
        where, _, whom = where.partition("/")
        place, _, n = where.partition(":")
        harm = Harm(signal.Signals[name], int(n), whom)
        harm.in_saves() if place == "save" else harm.after(*PLACES[place])
    if file:
        see(Path(file))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
