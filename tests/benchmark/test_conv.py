"""Training of the convolutional model against a float32 loop by hand. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_conv.py

Each epoch of the Trainer lies between two of the loop, in one process. The loop therefore gets what the framework tells
the memory allocator of the process (see vae_lightning/heap.py), which makes it up to a fifth faster than it is alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.harness import QUICK, Timed, alternated, missing, row
from benchmark.loops import Bare, Framework
from vae_lightning.bfloat16 import why_slow

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("float32")]
IMAGES, TIMES, BATCH_SIZE = (256, 1, 128) if QUICK else (12_800, 6, 128)


def bare_conv(images: Tensor) -> Bare:
    """`model=conv` as a careful person writes it by hand."""
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, 1, 1), nn.LeakyReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.LeakyReLU()),
        *(nn.Conv2d(64, 64, 3, 2, 1), nn.LeakyReLU(), nn.Conv2d(64, 64, 3, 1, 1), nn.LeakyReLU()),
        *(nn.Flatten(), nn.Linear(64 * 49, 40)),
    )
    decoder = nn.Sequential(
        *(nn.Linear(20, 64 * 49), nn.Unflatten(1, (64, 7, 7)), nn.LeakyReLU()),
        *(nn.ConvTranspose2d(64, 64, 3, 1, 1), nn.LeakyReLU(), nn.ConvTranspose2d(64, 64, 3, 2, 1, 1)),
        *(nn.LeakyReLU(), nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.LeakyReLU()),
        nn.ConvTranspose2d(32, 1, 3, 1, 1),
    )
    return Bare(images, BATCH_SIZE, encoder, decoder)


def against_the_loop(folder: Path, root: str, *overrides: str) -> Timed:
    words = ["model=conv", f"data.root={root}", f"data.limit={IMAGES}", f"data.batch_size={BATCH_SIZE}", *overrides]
    framework = Framework(folder, *words)
    bare = bare_conv(framework.run.data.train[0])
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
