"""A sweep of 8 seeds of the default model on real MNIST, trained together against one after the other. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_ensemble.py

Whole commands are timed, start and tests included: `hydra/launcher=vectorized`, and `hydra/launcher=process` with one
job at a time, which has all cores to itself.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.harness import QUICK, alternated, row, seconds

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
SEEDS = 2 if QUICK else 8
SAID = [f"seed=range({SEEDS})", "accelerator=cpu", "pictures=false", "logger=csv"]
SAID += ["data.limit=600", "trainer.max_epochs=1"] if QUICK else ["data.limit=20000", "trainer.max_epochs=3"]


def test_8_seeds_together_against_one_after_the_other(tmp_path: Path, mnist: str) -> None:
    numbers = itertools.count()

    def sweep(launcher: str) -> float:
        folder = tmp_path / f"{launcher}{next(numbers)}"
        words = [sys.executable, "-m", "vae_lightning", "-m", *SAID, f"hydra/launcher={launcher}"]
        words += [f"data.root={mnist}", f"hydra.sweep.dir={folder}"]
        took = seconds(lambda: subprocess.run(words, check=True, capture_output=True, cwd=tmp_path))
        assert len(list(folder.glob("*/results.json"))) == SEEDS
        return took

    found = alternated(lambda: sweep("vectorized"), lambda: sweep("process"), 2)
    assert row("ensemble-cpu", found.ratios, f"{min(found.a):.0f} s against {min(found.b):.0f} s at best")
