"""The rows of the table that need a GPU. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_gpu.py

Images lie on the card, and a step is one captured graph (`accelerator.graph=true`). Without a card there is nothing to
see, and the table says so; BENCHMARK_QUICK=1 then runs what can be run on the processor, without graphs.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from benchmark.graphs import ByHand, Plain
from benchmark.harness import QUICK, alternated, row, seconds
from benchmark.loops import Framework, template_loader

CARD = torch.cuda.is_available()
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("float32")]
TIMES, AT_ONCE = 8, 4


@pytest.fixture(autouse=True)
def _card() -> None:
    if not CARD and not QUICK:
        pytest.skip("no GPU")


def words(root: str, *others: str, accelerator: str = "gpu", images: int | None = None) -> list[str]:
    where = [f"accelerator={accelerator}", "accelerator.graph=true"] if CARD else ["accelerator=cpu"]
    return [f"data.root={root}", f"data.limit={600 if QUICK else images or 'null'}", *where, *others]


def trained(folder: Path, *overrides: str) -> Framework:
    """After some epochs, the first of which has warmed up."""
    ours = Framework(folder, *overrides, at_once=2 if QUICK else TIMES + 1)
    ours.epoch()
    return ours


def test_images_per_second(tmp_path: Path, mnist: str) -> None:
    ours = trained(tmp_path / "run", *words(mnist))
    whole = 1 / statistics.median(ours.whole[1:])
    row("gpu-mlp", [1 / each for each in ours.steps[1:]], f"{whole:,.0f} images/s with a checkpoint every epoch")


def test_against_plain_lightning(tmp_path: Path, mnist: str) -> None:
    MNIST(mnist, download=True)  # unpacks the files
    ours = Framework(tmp_path / "ours", *words(mnist), at_once=AT_ONCE)
    model, loss = copy.deepcopy((ours.run.lit.model, ours.run.lit.loss))
    found = []
    for workers in (0, 4):
        loader = template_loader(mnist, 128, workers, ours.images)
        theirs = Plain(tmp_path / f"{workers}", model, loss, loader, "gpu" if CARD else "cpu")
        found.append(alternated(theirs.epoch, ours.epoch, times=3).ratios)
    row("gpu-plain", found[0], f"with 4 workers {statistics.median(found[1]):.2f} ×")


def test_seconds_of_an_epoch_of_the_iwae_architecture(tmp_path: Path, mnist: str) -> None:
    ours = trained(tmp_path / "run", *words(mnist, "experiment=burda_2016_vae"))
    row("gpu-iwae", [60_000 * each for each in ours.whole[1:]])


def test_convolutions_against_a_graph_by_hand(tmp_path: Path, mnist: str) -> None:
    ours = Framework(tmp_path / "ours", *words(mnist, "model=conv", accelerator="gpu_bf16"), at_once=AT_ONCE)
    device = torch.device("cuda" if CARD else "cpu")
    encoder, decoder = copy.deepcopy((ours.run.lit.model.infer.encoder, ours.run.lit.model.decoder))
    theirs = ByHand(ours.run.data.train[0].to(device), 128, encoder.to(device), decoder.to(device))
    row("gpu-conv", alternated(theirs.epoch, ours.epoch, times=TIMES).ratios)


def test_seconds_of_the_likelihood_of_the_test_set(tmp_path: Path, mnist: str) -> None:
    ours = Framework(tmp_path / "run", *words(mnist, images=3000))
    ours.epoch()
    device = torch.device("cuda" if CARD else "cpu")
    model = ours.run.lit.model.to(device).eval()
    MNIST(mnist, download=True)
    x = (MNIST(mnist, train=False).data[: 20 if QUICK else None].unsqueeze(1) > 127).float().to(device)

    def nll() -> float:
        return -sum(model.log_prob(part, samples=50 if QUICK else 5000).sum().item() for part in x.split(100)) / len(x)

    with torch.no_grad():
        nll()
        taken = [seconds(nll) for _ in range(1 if QUICK else 3)]
    row("gpu-nll", taken, f"{len(x)} images")


def test_32_seeds_against_one(tmp_path: Path, mnist: str) -> None:
    """Seconds of training as the runs themselves have measured them, those of the slowest one of 32."""
    n, epochs = (2, 1) if QUICK else (32, 5)

    def slowest(folder: Path, seeds: str, launcher: str) -> float:
        said = [*words(mnist), f"trainer.max_epochs={epochs}", "pictures=false", f"hydra.sweep.dir={folder}"]
        command = [sys.executable, "-m", "vae_lightning", "-m", f"seed={seeds}", f"hydra/launcher={launcher}", *said]
        subprocess.run(command, check=True, capture_output=True)
        return max(json.loads(path.read_text())["seconds"] for path in folder.glob("*/results.json"))

    ratios = []
    for i in range(1 if QUICK else 3):
        many = slowest(tmp_path / f"many{i}", f"range({n})", "vectorized")
        ratios.append(many / slowest(tmp_path / f"one{i}", "1", "process"))
    row("gpu-ensemble", ratios)
