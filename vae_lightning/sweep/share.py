"""The cores and GPUs of a machine, shared out among jobs that run at the same time."""

from __future__ import annotations

import os
from pathlib import Path

GPUS = Path("/proc/driver/nvidia/gpus")


def cores(places: int) -> None:
    """Let this process use its part of the cores; no more than `OMP_NUM_THREADS`, where that is set."""
    import torch

    mine = max(1, len(os.sched_getaffinity(0)) // places)
    asked = os.environ.get("OMP_NUM_THREADS")
    threads = min(mine, int(asked)) if asked else mine
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def gpus(place: int, places: int) -> None:
    """Let this process see its part of the GPUs, where there are several. Called before any of them is touched."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        known = [g for g in visible.split(",") if g]
    else:
        known = [str(i) for i in range(len(list(GPUS.iterdir())))] if GPUS.is_dir() else []
    if len(known) > 1:
        each = max(1, len(known) // places)
        mine = [known[(place * each + i) % len(known)] for i in range(each)]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
