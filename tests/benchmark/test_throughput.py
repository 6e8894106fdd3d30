"""Training time as ratios, on real MNIST. Run with

    python -m pytest -m benchmark -s tests/benchmark

Three loops train the default model on the same kind of images: a bare PyTorch loop over tensors in memory with fused
Adam; this framework with its full Trainer (logging, checkpoints and progress bar on); and the same module behind a
DataLoader over torchvision's MNIST with ToTensor, one minibatch per step. They run in one process: each epoch of the
Trainer lies between two epochs of the bare loop and is divided by their mean, so that a machine that becomes slower or
faster meanwhile cancels out. The table shows medians and quartiles.
"""

from __future__ import annotations

import platform
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
from vae_lightning.train import prepare

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("default")]
EPOCHS = 8


class Bare:
    """What a careful person writes by hand."""

    def __init__(self, images: torch.Tensor, batch_size: int) -> None:
        self.images, self.batch_size = images.flatten(1), batch_size
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))
        self.optimizer = torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], fused=True)

    def epoch(self) -> float:
        """Seconds per image."""
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
        return (time.perf_counter() - start) / len(self.images)


class BetweenBareEpochs(L.Callback):
    """Times the Trainer's epochs, all callbacks included and validation left out, and a bare epoch around each."""

    def __init__(self, bare: Bare, images: int) -> None:
        self.bare, self.images = bare, images
        self.before, self.seconds, self.ratios, self.per_image = bare.epoch(), 0.0, list[float](), list[float]()

    def on_train_epoch_start(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.current_epoch > 0:
            self._finish()
        self.seconds, self.since = 0.0, time.perf_counter()

    def on_validation_start(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self.since

    def on_validation_end(self, *_: object) -> None:
        self.since = time.perf_counter()

    def on_train_end(self, *_: object) -> None:
        self._finish()

    def _finish(self) -> None:
        mine = (self.seconds + time.perf_counter() - self.since) / self.images
        after = self.bare.epoch()
        self.per_image.append(mine)
        self.ratios.append(2 * mine / (self.before + after))
        self.before = after


class FromDataLoader:
    """torchvision's images, one at a time through ToTensor, as minibatches for the same module."""

    def __init__(self, root: str, batch_size: int) -> None:
        self.loader = DataLoader(MNIST(root, transform=ToTensor()), batch_size, shuffle=True)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self):
        for i, (grey, y) in enumerate(self.loader):
            x = (torch.rand_like(grey) < grey).float()
            yield [Minibatch(x, y, i, i / len(self.loader), len(x), 1.0, True, len(x))]


def measure(folder: Path, root: str, batch_size: int, loader: FromDataLoader | None, epochs: int) -> BetweenBareEpochs:
    settings = [f"data.root={root}", f"data.batch_size={batch_size}", f"trainer.max_epochs={epochs}", "accelerator=cpu"]
    config, choices = compose(settings)
    folder.mkdir()
    run = prepare(config, choices, folder)
    timed = BetweenBareEpochs(Bare(run.data.train[0], batch_size), run.data.n_train if loader is None else 60_000)
    run.trainer.callbacks.append(timed)
    if loader is not None:
        run.data.train_dataloader = lambda: loader
    run.trainer.fit(run.lit, run.data)
    return timed


@pytest.mark.parametrize("batch_size", [32, 128, 512])
def test_throughput(batch_size: int, tmp_path: Path, mnist: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_default_dtype(torch.float32)  # the tests' own default is float64
    MNIST(mnist, download=True)  # unpacks the files
    ours = measure(tmp_path / "ours", mnist, batch_size, None, EPOCHS)
    theirs = measure(tmp_path / "theirs", mnist, batch_size, FromDataLoader(mnist, batch_size), EPOCHS // 2)
    with capsys.disabled():
        print(
            f"\nbatch {batch_size}: {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}"
        )
        for name, timed in (("framework", ours), ("DataLoader", theirs)):
            low, middle, high = statistics.quantiles(timed.ratios, n=4)
            images = 1 / statistics.median(timed.per_image)
            print(f"  {name:10} {middle:5.2f} x bare loop (quartiles {low:.2f}-{high:.2f})  {images:8,.0f} images/s")
        faster = statistics.median(theirs.ratios) / statistics.median(ours.ratios)
        print(f"  the framework is {faster:.2f} x faster than the same module behind a DataLoader")
