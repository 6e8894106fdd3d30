"""A command line to which harm is done: `python -m harm <signal>@<place>:<n> <file> <arguments of vae_lightning>`.

The process sends itself the signal when it comes to that place for the n-th time: `minibatch` (the optimiser has
stepped), `validation` or `test` (a portion was evaluated), `epoch` (one has ended, and its checkpoints are not yet
written), `start` (a new one begins). `save` counts, in the saves of checkpoints, every moment before and after
something is done to a file. Every minibatch of training adds a line to the file, if one is named: its number, and
numbers by which its examples are known.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vae_lightning import __main__, atomic, whole
from vae_lightning.callback.stop import Stop
from vae_lightning.checkpoint import AtomicCheckpointIO
from vae_lightning.data.loader import Minibatch
from vae_lightning.lit import LitVAE

PLACES = {
    "minibatch": (LitVAE, "end"),
    "validation": (LitVAE, "validation_step"),
    "test": (LitVAE, "test_step"),
    "epoch": (LitVAE, "on_train_epoch_end"),
    "start": (Stop, "on_train_epoch_start"),
}


class Harm:
    """Counts how often a place was passed."""

    def __init__(self, number: int, at: int) -> None:
        self.number, self.left = number, at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)

    def after(self, owner: Any, name: str) -> None:
        """Passed whenever this method has returned."""
        method = getattr(owner, name)

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
    wanted = sys.argv.pop(1)
    if wanted != "none":
        name, _, place = wanted.partition("@")
        place, _, n = place.partition(":")
        harm = Harm(signal.Signals[name], int(n))
        harm.in_saves() if place == "save" else harm.after(*PLACES[place])
    if file := sys.argv.pop(1):
        see(Path(file))
    __main__.main()
