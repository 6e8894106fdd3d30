"""What a job of a sweep costs beside its training, and what that makes of 10 000 of them. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_scale.py

The first table is measured. The second one is arithmetic from it and from the constants below, for machines that were
not at hand: seconds of a job = fixed + optimiser steps x max(floating-point operations / throughput, overhead).
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import torch.distributed as dist

from vae_lightning import child, status
from vae_lightning.search.store import Store
from vae_lightning.sweep import summary

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("default")]
JOBS, TRIALS = 10_000, 300
STEP_OVERHEAD = 1.0e-3  # seconds: 200 kernels and their Python, 5 microseconds each; an assumption
GPU_FLOPS = 3.0e13  # of small float32 products on an H200-class card, half of its peak; an assumption
GPU_JOBS = 8  # at the same time on one card, two cores each; an assumption
CONV = 60  # operations per image of a small convolutional network, in those of the default one; an assumption


def nothing() -> None:
    import vae_lightning.train  # noqa: F401


def fork_seconds() -> tuple[float, float]:
    """Median seconds to start a process that has imported everything: from the fork server, and anew."""
    context = child.context()
    forked, anew = [], []
    for _ in range(6):
        start = time.perf_counter()
        process = context.Process(target=nothing)
        process.start()
        process.join()
        forked.append(time.perf_counter() - start)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import vae_lightning.train"], check=True)
        anew.append(time.perf_counter() - start)
    return statistics.median(forked[1:]), statistics.median(anew[1:])


def job(tmp_path: Path, mnist: str) -> dict[str, Any]:
    """The default run, two epochs, as two jobs of a sweep; the second one counts."""
    words = ["-m", "seed=1,2", "trainer.max_epochs=2", f"hydra.sweep.dir={tmp_path}", "accelerator=cpu"]
    words += [f"data.root={mnist}"]
    subprocess.run([sys.executable, "-m", "vae_lightning", *words], check=True, capture_output=True)
    known = status.read(tmp_path / "1")
    return json.loads((tmp_path / "1" / "results.json").read_text()) | {"wall": known["seconds"]}


def _reduce(rank: int, file: str, n: int, out: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    x, seconds = torch.ones(n), []
    for _ in range(50):
        start = time.perf_counter()
        dist.all_reduce(x)
        seconds.append(time.perf_counter() - start)
    out[rank] = statistics.median(seconds)
    dist.destroy_process_group()


def all_reduce(n: int, file: Path) -> float:
    """Median seconds to add up n numbers of two processes."""
    context = multiprocessing.get_context("spawn")
    out = context.Manager().dict()
    both = [context.Process(target=_reduce, args=(rank, str(file), n, out)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    return max(out.values())


def trials(address: str) -> float:
    """Seconds for one trial that is asked for, reported to twice and told."""
    store = Store(address).open()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=store, sampler=optuna.samplers.RandomSampler(0))
    start = time.perf_counter()
    for _ in range(TRIALS):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        trial.report(1.0, 1)
        trial.report(2.0, 2)
        study.tell(trial, 1.0)
    return (time.perf_counter() - start) / TRIALS


def table_seconds(folder: Path) -> float:
    """To write the status of that many jobs, and to show them all."""
    start = time.perf_counter()
    for i in range(JOBS):
        (folder / str(i)).mkdir(parents=True)
        said = {"overrides": [f"seed={i}"], "objective": ["test/loss"], "seconds": 1.0}
        status.update(folder / str(i), state=status.DONE, result=float(i), **said)
    summary.show(folder)
    return time.perf_counter() - start


def hours(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


def test_scale(tmp_path: Path, mnist: str) -> None:
    forked, anew = fork_seconds()
    run = job(tmp_path / "sweep", mnist)
    n = run["parameters"]
    images = run["data"]["n_train"]
    fixed = run["wall"] - 2 * images / run["images_per_second"]
    reduce, step = all_reduce(n, tmp_path / "store"), 128 / run["images_per_second"]
    stores = {"journal file": str(tmp_path / "a.journal"), "SQLite": f"sqlite:///{tmp_path}/a.db"}
    asked = {name: trials(address) for name, address in stores.items()}
    shown = table_seconds(tmp_path / "many")
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    flops = 6 * n
    print(
        f"\n{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    rows = [
        ("a process with everything imported, forked / anew", f"{forked:.2f} s / {anew:.1f} s"),
        ("training, default model, batch 128", f"{run['images_per_second']:,.0f} images/s"),
        (
            "   in floating-point operations (6 per weight and image)",
            f"{run['images_per_second'] * flops / 1e9:.0f} GFLOP/s",
        ),
        ("a job beside its training (data, validation, pictures, test)", f"{fixed:.1f} s"),
        ("memory of a job", f"{megabytes:.0f} MB"),
        (
            "gradients of the default model added up by 2 processes (gloo)",
            f"{reduce * 1e3:.1f} ms, a step {step * 1e3:.1f} ms",
        ),
        *(
            (f"a trial asked, reported twice, told: {name}", f"{seconds * 1e3:.1f} ms")
            for name, seconds in asked.items()
        ),
        (f"status and table of {JOBS} jobs", f"{shown:.1f} s"),
    ]
    for row in rows:
        print(f"| {row[0]} | {row[1]} |")

    steps = 20 * images / 128
    print("\nextrapolated, 20 epochs of MNIST")
    for name, factor in (("default", 1), ("60 times the operations", CONV)):
        here = 20 * images / (run["images_per_second"] / factor)
        card = steps * max(128 * flops * factor / GPU_FLOPS, STEP_OVERHEAD)
        one = forked + fixed + card
        together = card if card / steps > STEP_OVERHEAD else card / GPU_JOBS  # idle between kernels: others fit in
        each = (forked + fixed) / GPU_JOBS + together
        cells = [here, card, one, JOBS * each, JOBS * each / 8]
        print(" | ".join(["", name, *map(hours, cells), ""]))
