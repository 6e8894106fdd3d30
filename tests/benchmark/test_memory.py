"""Peak memory against what a run needs, and the cost of an image in small and large data sets. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_memory.py

What a run needs: the memory of a process that has imported torch and lightning and done nothing, measured in the same
way; images and labels as bytes; weights, gradient and Adam's moments; and what autograd keeps of a minibatch until its
backward pass. The rest, up to 1.3 times that, is for matplotlib and TensorBoard, and what comes and goes meanwhile.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.harness import QUICK, row
from benchmark.loops import Framework
from benchmark.memory import random_images
from vae_lightning.data.idx import Idx

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("float32")]
TESTS = Path(__file__).parents[1]
IDLE = "import torch, lightning; from benchmark.peak import peak; print(peak())"
RUNS = {
    "memory-default": ["trainer.max_epochs=2"],
    "memory-conv": ["model=conv", "data.batch_size=1024", "data.limit=8192", "data.val_size=1000"],
    "memory-million": [f"images={10_000 if QUICK else 1_000_000}", "data.batch_size=4096", "model.hidden=[50]"],
}
SIZES = [6_000, 7_000] if QUICK else [1_000, 10_000, 100_000, 1_000_000]


def fresh(*words: str) -> str:
    """The last line that a new process prints."""
    done = subprocess.run([sys.executable, *words], cwd=TESTS, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("key", RUNS)
def test_peak_memory(key: str, mnist: str) -> None:
    quick = ["data.limit=200"] if QUICK else []
    idle = int(fresh("-c", IDLE))
    found = json.loads(fresh("-m", "benchmark.memory", *RUNS[key], f"data.root={mnist}", *quick))
    found["libraries"] = idle
    needed = sum(found[name] for name in ("libraries", "data", "weights", "activations"))
    row(key, [found["peak"] / needed], ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in found.items()))


def test_cost_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order, index operation, binarisation and steps of an epoch, per image; what an epoch costs beside them is told
    apart, as an epoch of 1000 images is made of little else."""
    monkeypatch.setattr(Idx, "read", Idx.read)  # put back afterwards
    runs, costs = {}, dict[int, list[float]]()
    for n in SIZES:
        random_images(n + 1000)
        said = ["data.val_size=1000", "accelerator=cpu"]
        runs[n], costs[n] = Framework(tmp_path / f"{n}", *said, at_once=max(1, 20_000 // n)), []
    beside = []
    for _ in range(1 if QUICK else 2):
        for n in [*SIZES, *SIZES[-2::-1]]:  # forth and back
            runs[n].epoch()
            costs[n] += runs[n].steps[1:] or runs[n].steps
            beside += [n * (whole - steps) for whole, steps in zip(runs[n].whole, runs[n].steps, strict=True)]
    cost = {n: statistics.median(each) for n, each in costs.items()}
    told = "; ".join(f"{n:,} images: {1e6 * each:.1f} µs each".replace(",", " ") for n, each in cost.items())
    told += f"; an epoch costs {statistics.median(beside):.3f} s beside"
    row("growth", [max(cost.values()) / min(cost.values())], told)
