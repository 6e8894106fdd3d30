"""Seconds per epoch of MNIST, as ratios. Run with

    pytest -m benchmark -s tests/benchmark

Three loops train the default model at the same batch size on the same binarised images: a bare PyTorch loop over
tensors in memory with fused Adam; this framework, with logging, checkpoints and progress bar; and the same module
behind a DataLoader over torchvision's MNIST with ToTensor. They take turns in one process, in every order, and the
table shows the medians of the ratios of neighbours.
"""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from vae_lightning.compose import compose
from vae_lightning.data.loader import Minibatch
from vae_lightning.train import Run, prepare

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("default")]
ROUNDS = 6


class Bare:
    """What a careful person writes by hand."""

    def __init__(self, images: torch.Tensor, batch_size: int) -> None:
        self.images, self.batch_size = images.flatten(1), batch_size
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))
        self.optimizer = torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], fused=True)

    def epoch(self) -> float:
        start = time.perf_counter()
        for chosen in torch.randperm(len(self.images)).split(self.batch_size):
            grey = self.images[chosen].float() / 255
            x = (torch.rand_like(grey) < grey).float()
            mean, log_variance = self.encoder(x).chunk(2, -1)
            sigma = (log_variance / 2).exp()
            logits = self.decoder(mean + sigma * torch.randn_like(mean))
            distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            rate = 0.5 * (mean**2 + sigma**2 - 1 - log_variance).sum()
            self.optimizer.zero_grad()
            ((distortion + rate) / len(x)).backward()
            self.optimizer.step()
        return time.perf_counter() - start


class Stopwatch(L.Callback):
    """Seconds from the first step of an epoch to its last callback, without validation."""

    def __init__(self) -> None:
        self.seconds = self.since = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        self.seconds, self.since = 0.0, time.perf_counter()

    def on_validation_start(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self.since

    def on_validation_end(self, *_: object) -> None:
        self.since = time.perf_counter()

    def on_train_end(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self.since


class FromDataLoader:
    """torchvision's images, one at a time through ToTensor, as minibatches for the same module."""

    def __init__(self, root: str, batch_size: int) -> None:
        self.batch_size = batch_size
        self.loader = DataLoader(MNIST(root, transform=ToTensor()), batch_size, shuffle=True)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self):
        for i, (grey, y) in enumerate(self.loader):
            x = (torch.rand_like(grey) < grey).float()
            yield [Minibatch(x, y, i, i / len(self.loader), len(x), 1.0, True)]


def prepared(folder: Path, root: str, batch_size: int) -> Run:
    config, choices = compose(
        [f"data.root={root}", f"data.batch_size={batch_size}", "trainer.max_epochs=1", "accelerator=cpu"]
    )
    return prepare(config, choices, folder)


def fit(run: Run, loader: object = None) -> float:
    """One epoch; the time per image is what counts, so that the sizes of the training sets do not."""
    watch = Stopwatch()
    run.trainer.callbacks.append(watch)
    if loader is not None:
        run.data.train_dataloader = lambda: loader
    run.trainer.fit(run.lit, run.data)
    return watch.seconds


@pytest.mark.parametrize("batch_size", [32, 128, 512])
def test_throughput(batch_size: int, tmp_path: Path, mnist: str, capsys: pytest.CaptureFixture[str]) -> None:
    images = prepared(tmp_path / "first", mnist, batch_size).data.train[0]
    MNIST(mnist, download=True)  # unpacks the files
    bare, torchvision = Bare(images, batch_size), FromDataLoader(mnist, batch_size)
    numbers = itertools.count()
    loops = {
        "bare": lambda: bare.epoch() / len(images),
        "framework": lambda: fit(prepared(tmp_path / str(next(numbers)), mnist, batch_size)) / len(images),
        "dataloader": lambda: fit(prepared(tmp_path / str(next(numbers)), mnist, batch_size), torchvision) / 60_000,
    }
    bare.epoch()  # warm-up
    times: dict[str, list[float]] = {name: [] for name in loops}
    for order in itertools.islice(itertools.cycle(itertools.permutations(loops)), ROUNDS):
        for name in order:
            times[name].append(loops[name]())
    with capsys.disabled():
        print(f"\nbatch {batch_size}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        for name, seconds in times.items():
            ratios = [s / b for s, b in zip(seconds, times["framework"], strict=True)]
            to_bare = [s / b for s, b in zip(seconds, times["bare"], strict=True)]
            print(
                f"  {name:11} {60_000 * statistics.median(seconds):6.2f} s per 60 000 images"
                f"   x bare {statistics.median(to_bare):5.2f} ({min(to_bare):.2f}-{max(to_bare):.2f})"
                f"   x framework {statistics.median(ratios):5.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            )
