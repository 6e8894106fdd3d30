"""How long a command takes before it works: the whole of one that trains nothing, and up to the first step. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_start.py

Each is a process of its own. The default run needs VAE_LIGHTNING_DATA, a folder with MNIST in it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from benchmark import harness

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("default")]
TIMES = 5
QUICK = ["trainer.enable_progress_bar=false", "accelerator=cpu"]
REFERENCE = "import lightning, torchvision, os; os._exit(0)"  # taking all of it down again is not counted
PROBE = """
import os
from contextlib import contextmanager
from vae_lightning import __main__, job

@contextmanager
def imported():
    with uncollected():
        yield
    from vae_lightning.lit import LitVAE
    LitVAE.training_step = lambda *_: os._exit(33)

uncollected, job.uncollected = job.uncollected, imported
__main__.main()
"""  # leaves where the first step would begin; everything is imported as ever


def took(words: list[str], cwd: Path, code: int) -> float:
    """Seconds from the start of a process to its end, which is to have this exit code."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == code, done.stdout + done.stderr
    return seconds


@pytest.mark.parametrize(
    ("key", "words", "code"),
    [("help", "--help", 0), ("cfg", "--cfg job", 0), ("typing-error", "los.beta=4", 2), (None, "model=cnov", 2)],
)
def test_what_trains_nothing(key: str | None, words: str, code: int, tmp_path: Path) -> None:
    samples = [took(["-m", "vae_lightning", *words.split()], tmp_path, code) for _ in range(TIMES)]
    if key is None:
        print(f"\n{words}: {statistics.median(samples):.2f} s ({min(samples):.2f}-{max(samples):.2f})")
    else:
        harness.row(key, samples)


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_start_to_the_first_step(data: str, tmp_path: Path) -> None:
    if data == "mnist" and "VAE_LIGHTNING_DATA" not in os.environ:
        pytest.skip("VAE_LIGHTNING_DATA=<folder with MNIST> is not set")
    run = partial(took, ["-c", PROBE, f"data={data}", *QUICK], tmp_path, 33)
    timed = harness.alternated(run, partial(took, ["-c", REFERENCE], tmp_path, 0), TIMES)
    mine, theirs = (statistics.median(part) for part in (timed.a, timed.b))
    note = f"data={data}: {mine:.2f} s, the imports alone {theirs:.2f} s"
    if data == "mnist":  # the default run
        harness.row("start", timed.ratios, note)
    else:
        low, high = min(timed.ratios), max(timed.ratios)
        print(f"\n{note}, ratio {statistics.median(timed.ratios):.2f} ({low:.2f}-{high:.2f})")
