"""What is seen of a sweep while it works: a line for each job that runs, and one for each that has ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from vae_lightning import status
from vae_lightning.signals import Stopped
from vae_lightning.sweep.summary import again, reason


class Progress:
    """A bar for each running job on a terminal; elsewhere only lines of those that have ended.

    Args:
        n: how many jobs there are, where it is known.
        folder: of the sweep.
        same: overrides that all jobs have.
    """

    def __init__(self, n: int | None, folder: Path, same: Collection[str] = ()) -> None:
        self.n, self.folder, self.same, self.count = n, folder, same, 0
        self.console = Console(soft_wrap=True)
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
        ]
        self.bars = Bars(*columns, TimeElapsedColumn(), console=self.console, transient=True)
        self.tasks: dict[int, TaskID] = {}
        self.reasons: set[str] = set()

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bars.stop()
        if kind in (KeyboardInterrupt, Stopped):
            self.console.print(f"interrupted: {again(self.folder)}", markup=False)

    def started(self, number: int, overrides: Sequence[str]) -> None:
        self.tasks[number] = self.bars.add_task(self._told(number, overrides), total=None, said="starts")

    def goes_on(self, number: int, known: Mapping[str, Any]) -> None:
        """`known` is the job's status."""
        if "epochs" in known:
            said = "  ".join(f"{name} {value:.2f}" for name, value in known.get("values", {}).items())
            self.bars.update(self.tasks[number], completed=known["epoch"], total=known["epochs"], said=said)

    def put_off(self, number: int, overrides: Sequence[str], why: str) -> None:
        """It starts again in a process of its own. A reason is told once."""
        self.bars.remove_task(self.tasks.pop(number))
        if why not in self.reasons:
            self.reasons.add(why)
            self.console.print(f"{self._told(number, overrides)}: alone: {why}", markup=False, highlight=False)

    def ended(self, number: int, overrides: Sequence[str], known: Mapping[str, Any]) -> None:
        self.count += 1
        if number in self.tasks:
            self.bars.remove_task(self.tasks.pop(number))
        of = f"/{self.n}" if self.n is not None else ""
        said = f"[{self.count}{of}] {self._told(number, overrides)}: {outcome(known)}"
        self.console.print(said, markup=False, highlight=False)

    def _told(self, number: int, overrides: Sequence[str]) -> str:
        said = [o for o in status.own(overrides) if o not in self.same]
        return " ".join([f"job {number}", *said])


def outcome(known: Mapping[str, Any]) -> str:
    """How a job ended, in a line, from its status.

    >>> outcome({"state": "failed", "reason": "ValueError: no"})
    'failed: ValueError: no'
    """
    if "state" not in known:
        return "ended, without a status"
    if known["state"] != status.DONE:
        return f"{known['state']}: {reason(known)}"
    found = zip(known.get("objective", []), status.results(known), strict=False)
    said = "  ".join(f"{name} {value:.2f}" for name, value in found)
    return f"{said}  in {known.get('seconds', 0):.0f} s"
