"""A command line, completed by what torchrun or Slurm say: how many processes there are, and a folder to go on in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vae_lightning import status
from vae_lightning.errors import ConfigError
from vae_lightning.override import key
from vae_lightning.ranks.place import Place, job, place, restarts
from vae_lightning.stranger import read_yaml, texts

SILENT = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")
OWN = ("hydra.run.dir", "hydra.sweep.dir", "ckpt")  # whoever says one of these wants a folder of his own
MULTIRUN = {"-m", "--multirun"}


def expand(arguments: Sequence[str]) -> list[str]:
    """A command line as it is meant here; outside of torchrun and Slurm as it is.

    Each of several processes is told how many there are, and all but the first that they have no folder. A job of Slurm
    trains in `outputs/slurm/<job>`; where that job was put into the queue again, it goes on from its last checkpoint.

    Raises:
        ConfigError: it contradicts the number of processes, or is a sweep and has several.
    """
    here, multirun = place(), bool(MULTIRUN & set(arguments))
    if here is None:
        return [*arguments, *_slurm(arguments, multirun)]
    if multirun:
        raise ConfigError(
            f"-m: a sweep is started once, not by {here.launcher} as {here.world} processes; without {here.launcher} "
            "each of its jobs starts as many as trainer.devices says"
        )
    counted = _counted(arguments, here)
    folder = _slurm([*arguments, *counted], multirun)
    if here.rank:
        folder = [a for a in folder if key(a) == "ckpt"]
        arguments = [a for a in arguments if not str(key(a)).startswith("hydra")]
    return [*arguments, *counted, *folder, *(SILENT if here.rank else [])]


def _counted(arguments: Sequence[str], here: Place) -> list[str]:
    given = {key(a): a.partition("=")[2] for a in arguments}
    counts = {"trainer.devices": here.local, "trainer.num_nodes": here.nodes}
    for name, n in counts.items():
        if given.get(name, str(n)) != str(n):
            raise ConfigError(
                f"{name}={given[name]}: {here.launcher} has started {here.world} processes on {here.nodes} node(s), "
                f"{here.local} on each; leave {name} out, or start others"
            )
    return [f"{name}={n}" for name, n in counts.items() if name not in given]


def _slurm(arguments: Sequence[str], multirun: bool) -> list[str]:
    """The folder of this job of Slurm, and where to go on.

    An interactive session is no job that could start again, and a job whose folder has another command line in it, as
    one that trains twice, gets folders by the time as everywhere else.
    """
    name, environment = job(), os.environ
    if name is None or "SUBMITIT_EXECUTOR" in environment or "SLURM_JOB_ID" not in environment:
        return []
    if environment.get("SLURM_JOB_NAME") in ("bash", "interactive") or {key(a) for a in arguments} & set(OWN):
        return []
    folder = Path("outputs") / "slurm" / name
    before = _before(folder, multirun)
    if before is not None and before != _said(arguments):
        return []
    goes_on = restarts() > 0 and not multirun and (folder / "checkpoints" / "last.ckpt").is_file()
    return [f"hydra.{'sweep' if multirun else 'run'}.dir={folder}", *([f"ckpt={folder}"] if goes_on else [])]


def _before(folder: Path, multirun: bool) -> list[str] | None:
    """What was said when something was last started in `folder`."""
    if multirun and (saved := folder / "multirun.yaml").is_file():
        return _said(texts(read_yaml(saved)["hydra"]["overrides"]["task"], saved))
    known = status.read(folder)
    return _said(known["overrides"]) if "overrides" in known else None


def _said(arguments: Sequence[str]) -> list[str]:
    named = [(key(a), a) for a in arguments]
    return sorted(a for name, a in named if name is not None and name != "ckpt" and not name.startswith("hydra"))
