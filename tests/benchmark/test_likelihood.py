"""The test likelihood with 5000 importance samples, against pythae 0.1.2's `get_nll` with the same network. Run with

    pip install -e ".[benchmark]"
    python -m pytest -m benchmark -s tests/benchmark/test_likelihood.py

Both get the same weights, and the same 1000 test images in portions that alternate, so that a machine that becomes
slower or faster meanwhile cancels out. The last line of the table is the decoder's two matrix products alone, as large
as they are quickest here. Memory is the peak of fresh processes.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.harness import QUICK, alternated, products, row, seconds
from benchmark.loops import pythae_model
from vae_lightning.build import build_model
from vae_lightning.compose import compose
from vae_lightning.train import prepare

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
SAMPLES, IMAGES, PORTION = 5000, 1000, 50
AT_ONCE = (1000, 2000, 4000)  # rows of a matrix product
Way = Callable[[Tensor, Tensor], Tensor]
MEMORY = """
import sys, torch
from benchmark.peak import peak
from vae_lightning.build import build_model
from vae_lightning.compose import compose
torch.distributions.Distribution.set_default_validate_args(False)
model = build_model(compose()[0], shape=(1, 28, 28), n_context=0).eval()
model.log_prob(torch.zeros(int(sys.argv[2]), 1, 28, 28), samples=int(sys.argv[1]))
print(peak())
"""


@pytest.mark.usefixtures("float32")
def test_nll_against_the_peak_of_its_matrix_products() -> None:
    model = build_model(compose()[0], shape=(1, 28, 28), n_context=0).eval()
    first, second = (m.weight for m in model.decoder.modules() if isinstance(m, nn.Linear))
    x = torch.rand(2 if QUICK else 20, 1, 28, 28).round()

    def took(way: Way, z: Tensor) -> float:
        """Seconds for as many rows as there are images and samples."""
        times = len(x) * SAMPLES // len(z)
        again = seconds(lambda: [way(way(z, first), second) for _ in range(times)])
        return again * (len(x) * SAMPLES) / (times * len(z))

    with torch.no_grad():
        ways = [(way, torch.randn(n, 20)) for way in products() for n in AT_ONCE]
        quickest = min(ways, key=lambda each: min(took(*each) for _ in range(3)))
        timed = alternated(lambda: took(*quickest), lambda: seconds(lambda: model.log_prob(x, samples=SAMPLES)), 9)
    row("nll-peak", timed.ratios)


def test_memory_of_the_nll_does_not_grow_with_the_samples() -> None:
    peaks = {}
    for samples, images in ((100, 200), (1000, 20), (10_000, 2)):
        command = [sys.executable, "-c", MEMORY, str(samples), str(images)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=_environment())
        peaks[samples] = int(done.stdout)
    said = ", ".join(f"{samples} samples {peak / 2**20:.0f} MB" for samples, peak in peaks.items())
    row("nll-memory", [peaks[10_000] / peaks[100]], said)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def test_nll_against_pythae(mnist: str, tmp_path: object) -> None:
    pytest.importorskip("pythae.models", reason='pip install -e ".[benchmark]" brings pythae 0.1.2')
    torch.set_default_dtype(torch.float32)
    torch.distributions.Distribution.set_default_validate_args(False)
    words = [f"data.root={mnist}", "data.limit=20000", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"]
    run = prepare(*compose([*words, "logger=none", "accelerator=cpu"]), tmp_path)  # type: ignore[arg-type]
    run.trainer.fit(run.lit, run.data)
    ours = run.lit.model.eval()
    encoder, decoder = ours.infer.encoder, ours.decoder

    theirs = pythae_model(encoder, decoder).eval()
    x = run.data.test[0][:IMAGES] / 255
    layers = [m for m in decoder.modules() if isinstance(m, nn.Linear)]
    z = torch.randn(1000, 20)

    multiply = products()[-1]

    def alone(images: Tensor) -> None:
        for _ in range(len(images) * SAMPLES // len(z)):
            multiply(multiply(z, layers[0].weight), layers[1].weight)

    runs: dict[str, Callable[[Tensor], object]] = {
        "vae_lightning": lambda images: ours.log_prob(images, samples=SAMPLES).mean().item(),
        "pythae 0.1.2": lambda images: theirs.get_nll(images, n_samples=SAMPLES, batch_size=100),
        "matrix products alone": alone,
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    values: dict[str, list[object]] = {name: [] for name in runs}
    with torch.no_grad():
        for i, images in enumerate(x.split(PORTION)):
            order = list(runs) if i % 2 else list(runs)[::-1]
            for name in order:
                start = time.perf_counter()
                values[name].append(runs[name](images))
                seconds[name].append(time.perf_counter() - start)
    ratios = {name: np.divide(taken, seconds["vae_lightning"]) for name, taken in seconds.items()}
    print(f"\nNLL, {SAMPLES} samples, {IMAGES} test images, portions of {PORTION}, {platform.processor()}, "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}")  # fmt: skip
    print("| | seconds per 1000 images | time against vae_lightning, median (quartiles) | nats |\n|---|---|---|---|")
    for name, ratio in ratios.items():
        low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75])
        nats = "" if values[name][0] is None else f"{np.mean(values[name]):.2f}"  # type: ignore[arg-type]
        print(f"| {name} | {sum(seconds[name]) * 1000 / IMAGES:.1f} | {middle:.2f} ({low:.2f}-{high:.2f}) | {nats} |")
    assert np.mean(values["vae_lightning"]) == pytest.approx(np.mean(values["pythae 0.1.2"]), abs=0.1)  # type: ignore[arg-type]
    assert statistics.median(ratios["pythae 0.1.2"]) >= 2
