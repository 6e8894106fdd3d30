"""`status.json` of a run folder: how far a run is, how it ended, and why. It is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from vae_lightning.atomic import write_json
from vae_lightning.schema import Range, allows

NAME = "status.json"
OUTPUT = "output.log"  # beside it, of a job of a sweep: all that it printed
RUNNING, DONE, FAILED, PRUNED, INTERRUPTED = "running", "done", "failed", "pruned", "interrupted"
Texts = list[str] | tuple[()]  # also none
KINDS: dict[str, Any] = {
    "state": str,
    "overrides": Texts,
    "objective": Texts,
    "reason": str | None,
    "seconds": float,
    "epoch": int,
    "epochs": int,
    "alone": str | None,
    "pid": Annotated[int, Range(0, 2**31 - 1)],
    "host": str,
    "job": str | None,
}


def read(folder: Path) -> dict[str, Any]:
    """What is known of the run in `folder`; empty if nothing is.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "run"
    >>> update(folder, state=RUNNING, overrides=["loss.beta=4"])
    >>> update(folder, state=DONE, result=101.5)
    >>> read(folder)
    {'state': 'done', 'overrides': ['loss.beta=4'], 'result': 101.5}
    """
    path = folder / NAME
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) and _ours(known) else {}  # not ours, or damaged: as if nothing were known


def _ours(known: Mapping[str, Any]) -> bool:
    """Whether these are values that `vae_lightning.job` and the launchers write."""
    if not all(name not in known or allows(kind, known[name]) for name, kind in KINDS.items()):
        return False
    values, found, names = known.get("values", {}), known.get("result"), known.get("objective")
    if not (isinstance(values, dict) and all(allows(float, value) for value in values.values())):
        return False
    if ("epoch" in known) != ("epochs" in known):
        return False
    several = found if isinstance(found, list) else [found]
    good = all(allows(float, value) for value in several) and len(several) == len(several if names is None else names)
    return good or known.get("state") != DONE


def own(overrides: Sequence[str]) -> list[str]:
    """What a job was told of itself, without what is Hydra's.

    >>> own(["seed=1", "+hydra.job.env_set.A=1", "hydra.sweep.subdir='3'"])
    ['seed=1']
    """
    return [o for o in overrides if not o.lstrip("+").startswith("hydra.")]


def results(known: Mapping[str, Any]) -> list[float]:
    """The numbers that a job which is done has come to, one for each name in its `objective`; none of another job."""
    if known.get("state") != DONE:
        return []
    return known["result"] if isinstance(known["result"], list) else [known["result"]]


def update(folder: Path, **values: Any) -> None:
    """Add `values` to what is known. One process at a time writes: the job, and after its death who started it."""
    known = read(folder) | values
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / NAME, known)
