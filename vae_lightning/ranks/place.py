"""Which of several processes this one is, and which job of a cluster: what torchrun, Slurm and submitit say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple


class Place(NamedTuple):
    """One of `world` processes, `local` of them on each node, that `launcher` has started."""

    launcher: str
    rank: int
    world: int
    local: int

    @property
    def nodes(self) -> int:
        return self.world // self.local


def place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Where this process is; None if it has not been started as one of several.

    A step of Slurm is what `srun` starts. The batch script itself, also that of a job with several tasks, is none.

    >>> place({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"})
    Place(launcher='srun', rank=3, world=4, local=2)
    >>> place({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
    True
    """
    said = environment.get
    if "TORCHELASTIC_RUN_ID" in environment:
        world = int(environment["WORLD_SIZE"])
        return Place("torchrun", int(environment["RANK"]), world, int(said("LOCAL_WORLD_SIZE") or world))
    world = int(said("SLURM_STEP_NUM_TASKS") or 1)
    if world > 1:
        nodes = int(said("SLURM_STEP_NUM_NODES") or said("SLURM_NNODES") or 1)
        return Place("srun", int(environment["SLURM_PROCID"]), world, world // nodes)
    return None


def rank() -> int:
    """The number of this process among those that train one model; 0 if it is the only one."""
    here = place()
    return here.rank if here else 0


def job(environment: Mapping[str, str] = os.environ) -> str | None:
    """The job of submitit or Slurm that this process belongs to; it keeps its name when it is put into the queue again.

    >>> job({"SLURM_JOB_ID": "43", "SLURM_ARRAY_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": "1"})
    '42_1'
    """
    said = environment.get
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{said('SLURM_ARRAY_JOB_ID')}_{said('SLURM_ARRAY_TASK_ID')}"
    return said("SUBMITIT_LOCAL_JOB_ID") or said("SLURM_JOB_ID")


def restarts(environment: Mapping[str, str] = os.environ) -> int:
    """How often Slurm has put this job into the queue again."""
    return int(environment.get("SLURM_RESTART_COUNT") or 0)


def requeued(known: Mapping[str, Any]) -> bool:
    """Whether the run with this status is one that this job has begun, before it was put into the queue again."""
    again = restarts() > 0 or "SUBMITIT_LOCAL_JOB_ID" in os.environ  # which has no counter
    return again and job() is not None and known.get("job") == job()


def puts_back(error: BaseException) -> bool:
    """Whether this is how submitit leaves a job that it has put into the queue again."""
    return "SUBMITIT_EXECUTOR" in os.environ and isinstance(error, SystemExit) and error.code in (-1, 144)
