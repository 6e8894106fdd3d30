"""The rows of the table that need a GPU. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_gpu.py

Images lie on the card, and a step is one captured graph (`accelerator.graph=true`). Without a card there is nothing to
see, and the table says so; BENCHMARK_QUICK=1 then runs what can be run on the processor, without graphs.
"""

from __future__ import annotations

import copy
import statistics
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from benchmark.graphs import ByHand, Plain
from benchmark.harness import QUICK, alternated, row, seconds
from benchmark.loops import Framework, seeds, template_loader

CARD = torch.cuda.is_available()
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("float32")]
TIMES = 1 if QUICK else 8
WARM_UP = 2  # epochs: what is recorded and compiled is made anew at every start
AT_ONCE = 4
COMPILED = ["accelerator.compile=true"] if CARD else []


@pytest.fixture(autouse=True)
def _card() -> None:
    if not CARD and not QUICK:
        pytest.skip("no GPU")


def words(root: str, *others: str, accelerator: str = "gpu", images: int | None = None) -> list[str]:
    where = [f"accelerator={accelerator}", "accelerator.graph=true"] if CARD else ["accelerator=cpu"]
    at_once = "trainer.minibatches_per_step=64"
    return [f"data.root={root}", f"data.limit={600 if QUICK else images or 'null'}", at_once, *where, *others]


def trained(folder: Path, *overrides: str) -> Framework:
    """After some epochs, the first of which have warmed up."""
    ours = Framework(folder, *overrides, at_once=WARM_UP + TIMES)
    ours.epoch()
    return ours


def images_per_second(key: str, folder: Path, overrides: list[str]) -> None:
    ours = trained(folder / "run", *overrides)
    whole = 1 / statistics.median(ours.whole[WARM_UP:])
    told = f"compiled; {whole:,.0f} images/s with a checkpoint every epoch".replace(",", " ")
    row(key, [1 / each for each in ours.steps[WARM_UP:]], told)


def test_images_per_second(tmp_path: Path, mnist: str) -> None:
    images_per_second("gpu-mlp", tmp_path, words(mnist, *COMPILED, accelerator="gpu_tf32"))


def test_32_seeds_against_one(tmp_path: Path, mnist: str) -> None:
    said = words(mnist, f"trainer.max_epochs={WARM_UP + 2 if QUICK else WARM_UP + 4}")
    many = seeds(tmp_path / "many", 2 if QUICK else 32, *said)[WARM_UP:]
    one = seeds(tmp_path / "one", 1, *said)[WARM_UP:]
    took = [f"{statistics.median(each):.2f} s" for each in (many, one)]
    row("gpu-ensemble", [each / statistics.median(one) for each in many], f"{took[0]} and {took[1]}")


def test_seconds_of_an_epoch_of_the_iwae_architecture(tmp_path: Path, mnist: str) -> None:
    ours = trained(tmp_path / "run", *words(mnist, *COMPILED, "experiment=burda_2016_vae"))
    row("gpu-iwae", [60_000 * each for each in ours.whole[WARM_UP:]], "compiled, with a checkpoint")


def test_convolutions_against_a_graph_by_hand(tmp_path: Path, mnist: str) -> None:
    ours = Framework(tmp_path / "ours", *words(mnist, "model=conv", accelerator="gpu_bf16"), at_once=AT_ONCE)
    device = torch.device("cuda" if CARD else "cpu")
    encoder, decoder = copy.deepcopy((ours.run.lit.model.infer.encoder, ours.run.lit.model.decoder))
    theirs = ByHand(ours.run.data.train[0].to(device), 128, encoder.to(device), decoder.to(device))
    row("gpu-conv", alternated(theirs.epoch, ours.epoch, times=max(1, TIMES // 2 - 1)).ratios)


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


def test_against_plain_lightning(tmp_path: Path, mnist: str) -> None:
    MNIST(mnist, download=True)  # unpacks the files
    ours = Framework(tmp_path / "ours", *words(mnist, images=20_000), at_once=AT_ONCE)
    model, loss = copy.deepcopy((ours.run.lit.model, ours.run.lit.loss))
    found = []
    for workers in (0, 4):
        loader = template_loader(mnist, 128, workers, ours.images)
        theirs = Plain(tmp_path / f"{workers}", model, loss, loader, "gpu" if CARD else "cpu")
        found.append(alternated(theirs.epoch, ours.epoch, times=2 - workers // 4).ratios)
    row("gpu-plain", found[0], f"20 000 images; with 4 workers {statistics.median(found[1]):.2f} ×")


def test_images_per_second_in_float32_throughout(tmp_path: Path, mnist: str) -> None:
    images_per_second("gpu-mlp-float32", tmp_path, words(mnist, *COMPILED))
