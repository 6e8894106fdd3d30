"""The table at the end of a sweep, whichever launcher and sweeper carried it out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from vae_lightning import status
from vae_lightning.objective import direction
from vae_lightning.resume import by_number

Status = Mapping[str, Any]
UNKNOWN = {"state": status.RUNNING, "overrides": [], "objective": []}
MOST = 40  # rows of either kind


class Summary(Callback):
    """Hydra calls it. A sweep in which a job has failed ends the program with 1."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if show(Path(config.hydra.sweep.dir)):
            sys.exit(1)


def jobs(folder: Path) -> dict[Path, dict[str, Any]]:
    """The status of each job of a sweep, by its folder. One that cannot be read is of a job that has not ended well."""
    found = sorted((p.parent for p in folder.rglob(status.NAME)), key=by_number)
    return {path: {**UNKNOWN, **status.read(path)} for path in found}


def show(folder: Path) -> int:
    """A table of all jobs; says how many have failed, or have not come to an end."""
    every = jobs(folder)
    good = [path for path, known in every.items() if known["state"] == status.DONE]
    bad = [path for path, known in every.items() if known["state"] not in (status.DONE, status.PRUNED)]
    best = sorted(good, key=lambda path: _rank(every[path]))
    shown = sorted({*best[:MOST], *bad[:MOST], *[path for path in every if len(every) <= MOST]}, key=by_number)
    common = set.intersection(*(set(known["overrides"]) for known in every.values())) if len(every) > 1 else set()
    names: list[str] = next((known["objective"] for known in every.values() if known["objective"]), [])
    table = Table(title=f"{len(every)} jobs", caption=" ".join(_kept(every, common)) or None)
    for column in ("job", "overrides", *names, "seconds", "state"):
        table.add_column(column, overflow="fold", justify="left" if column in ("overrides", "state") else "right")
    for path in shown:
        known = every[path]
        cells = [f"{value:.2f}" for value in status.results(known)] or [""] * len(names)
        seconds = f"{known['seconds']:.1f}" if "seconds" in known else ""
        state = "done, the best" if len(names) == 1 and path in best[:1] and len(good) > 1 else known["state"]
        told = " ".join(o for o in known["overrides"] if o not in common)
        state += ", alone" if known.get("alone") else ""
        table.add_row(str(path.relative_to(folder)), told, *cells, seconds, state)
    Console().print(table)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if len(shown) < len(every):
        console.print(f"{len(shown)} of {len(every)} jobs are shown: the best, and those that failed")
    for why, n in Counter(known["alone"] for known in every.values() if known.get("alone")).items():
        console.print(f"{n} of {len(every)} jobs were trained alone: {why}")
    for path in bad:
        told = " ".join(o for o in every[path]["overrides"] if o not in common)
        console.print(f"{path.relative_to(folder)}: {told}: {reason(every[path])}; see {_log(path)}")
    console.print(f"everything is in {folder}")
    if bad:
        console.print(f"{len(bad)} of {len(every)} jobs are unfinished: {again(folder)}")
    return len(bad)


def again(folder: Path) -> str:
    """What to type."""
    return f"python -m vae_lightning sweep.resume={folder} runs what is left"


def reason(known: Status) -> str:
    """Why a job has not come to its end, in a line.

    >>> reason({"state": "running"})
    'it was ended from outside, without a word'
    """
    if known["state"] == status.RUNNING:
        return "it was ended from outside, without a word"
    return str(known.get("reason") or "no reason is known").partition("\n")[0]


def _kept(every: Mapping[Path, Status], common: Iterable[str]) -> list[str]:
    """What is the same in all jobs, in the order of the command line."""
    return [o for known in list(every.values())[:1] for o in known["overrides"] if o in common]


def _rank(known: Status) -> float:
    """Lower is better, by the first of several objectives."""
    value, name = status.results(known)[0], "".join(known["objective"][:1])
    return -value if direction(name) == "maximize" else value


def _log(folder: Path) -> Path:
    output = folder / status.OUTPUT
    return output if output.exists() else folder / "vae_lightning.log"
