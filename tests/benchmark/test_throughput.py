"""Training time as ratios, on real MNIST. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_throughput.py

In one process, each epoch of this framework lies between two epochs of the other loop, and is divided by their mean.
pythae comes with `pip install -e ".[benchmark]"`. It has no dynamic binarisation: both loops get images that are
binarised at 1/2 once.
"""

from __future__ import annotations

import copy
import importlib.util
import statistics
from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from benchmark.harness import QUICK, Timed, alternated, missing, row
from benchmark.loops import DataLoaderChunks, Framework, Pythae, bare_mlp, template_loader

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("float32")]


def words(root: str, batch_size: int, images: int | None = None) -> list[str]:
    """What is said to both; `images` spares time where an image takes long."""
    limit = 600 if QUICK else images
    return [f"data.root={root}", f"data.batch_size={batch_size}", f"data.limit={limit or 'null'}", "accelerator=cpu"]


def speeds(timed: Timed) -> str:
    ours, theirs = (f"{1 / min(each):,.0f}".replace(",", " ") for each in (timed.a, timed.b))
    return f"{ours} and {theirs} images/s at best"


@pytest.mark.parametrize("batch_size", [32, 128, 512])
def test_against_the_bare_loop(batch_size: int, tmp_path: Path, mnist: str) -> None:
    ours = Framework(tmp_path / "ours", *words(mnist, batch_size))
    timed = alternated(ours.epoch, bare_mlp(ours.run.data.train[0], batch_size).epoch, times=6)
    row(f"mlp-{batch_size}", timed.ratios, speeds(timed))


def test_against_pythae(tmp_path: Path, mnist: str) -> None:
    if importlib.util.find_spec("pythae") is None:
        missing("pythae", 'needs pip install -e ".[benchmark]"')
        pytest.skip("no pythae")
    ours = Framework(tmp_path / "ours", *words(mnist, 128, images=20_000), "data.binarize=threshold")
    encoder, decoder = copy.deepcopy((ours.run.lit.model.infer.encoder, ours.run.lit.model.decoder))
    theirs = Pythae(tmp_path / "theirs", ours.run.data.train[0].float() / 255, encoder, decoder, 128)
    timed = alternated(theirs.epoch, ours.epoch, times=6)
    row("pythae", timed.ratios)


@pytest.mark.parametrize("batch_size", [32, 128])
def test_against_the_data_path_of_a_template(batch_size: int, tmp_path: Path, mnist: str) -> None:
    MNIST(mnist, download=True)  # unpacks the files
    said = words(mnist, batch_size, images=20_000)
    ours, found = Framework(tmp_path / "ours", *said), []
    for workers in (0, 2):  # it comes with 0
        loader = DataLoaderChunks(template_loader(mnist, batch_size, workers, ours.images))
        theirs = Framework(tmp_path / f"{workers}", *said, loader=loader)
        found.append(alternated(theirs.epoch, ours.epoch, times=5).ratios)
    row(f"template-{batch_size}", found[0], f"with 2 workers {statistics.median(found[1]):.2f} ×")
