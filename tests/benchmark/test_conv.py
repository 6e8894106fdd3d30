"""Training of the convolutional model against a float32 loop by hand. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_conv.py

Each epoch of the Trainer lies between two of the loop, in one process. The loop therefore gets what the framework tells
the memory allocator of the process (see vae_lightning/heap.py), which makes it up to a fifth faster than it is alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.harness import QUICK, Timed, alternated, missing, row, seconds
from benchmark.loops import Framework
from vae_lightning.bfloat16 import why_slow

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("float32")]
IMAGES, TIMES, BATCH_SIZE = (256, 1, 128) if QUICK else (12_800, 6, 128)


class BareConv:
    """`model=conv` as a careful person writes it by hand: images in memory, fused Adam, one step after the other."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, 1, 1), nn.LeakyReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.LeakyReLU()),
            *(nn.Conv2d(64, 64, 3, 2, 1), nn.LeakyReLU(), nn.Conv2d(64, 64, 3, 1, 1), nn.LeakyReLU()),
            *(nn.Flatten(), nn.Linear(64 * 49, 40)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(20, 64 * 49), nn.Unflatten(1, (64, 7, 7)), nn.LeakyReLU()),
            *(nn.ConvTranspose2d(64, 64, 3, 1, 1), nn.LeakyReLU(), nn.ConvTranspose2d(64, 64, 3, 2, 1, 1)),
            *(nn.LeakyReLU(), nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.LeakyReLU()),
            nn.ConvTranspose2d(32, 1, 3, 1, 1),
        )
        self.parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, fused=True)

    def epoch(self) -> float:
        """Seconds per image."""
        return seconds(self._epoch) / len(self.images)

    def _epoch(self) -> None:
        for chosen in torch.randperm(len(self.images)).split(BATCH_SIZE):
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


def against_the_loop(folder: Path, root: str, *overrides: str) -> Timed:
    words = ["model=conv", f"data.root={root}", f"data.limit={IMAGES}", f"data.batch_size={BATCH_SIZE}", *overrides]
    framework = Framework(folder, *words)
    bare = BareConv(framework.run.data.train[0])
    model = framework.run.lit.model
    theirs = [*model.infer.encoder.parameters(), *model.decoder.parameters()]
    assert sorted(p.shape for p in bare.parameters) == sorted(p.shape for p in theirs)
    return alternated(framework.epoch, bare.epoch, TIMES)


def test_conv_against_the_bare_loop(mnist: str, tmp_path: Path) -> None:
    plain = against_the_loop(tmp_path / "float32", mnist, "accelerator=cpu")
    contiguous = against_the_loop(tmp_path / "rows", mnist, "accelerator=cpu", "accelerator.channels_last=false")
    note = f"in float32 ours takes {_median(plain):.2f} × the time of the loop, {_median(contiguous):.2f} × without "
    note += "channels-last"
    print(f"\nconv, batch {BATCH_SIZE}: {note}")
    if why := why_slow():
        missing("conv-bf16", why)
        return
    mixed = against_the_loop(tmp_path / "bfloat16", mnist, "accelerator=cpu_bf16")
    row("conv-bf16", [1 / ratio for ratio in mixed.ratios], note)


def _median(timed: Timed) -> float:
    return torch.tensor(timed.ratios).median().item()
