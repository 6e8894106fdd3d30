"""Checkpoints of every released format load, give the numbers that they gave, and go on.

Each was made by `python -m vae_lightning` with the overrides below, and its numbers are written down as they were then.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from conftest import configured, fit

import vae_lightning
from vae_lightning.checkpoint import FORMAT, FORMATS, read_checkpoint
from vae_lightning.errors import UserError
from vae_lightning.train import prepare

FILES = Path(__file__).parent / "checkpoints"
MADE = [
    "data=digits", "data.source.size=8", "data.limit=200", "model.hidden=[8]", "model.latent_dim=2", "callback=ema",
    "trainer.max_epochs=2", "pictures=false", "logger=csv", "accelerator=cpu", "trainer.enable_progress_bar=false",
    "beta=warmup",
]  # fmt: skip
MEANS = [[0.148141, -0.365548], [0.253554, -0.363332], [0.493878, -0.213145]]  # of q(z | x) for three fixed images
SUMS = [30.554432, 30.557671, 30.563925]  # of their reconstructions


@pytest.mark.parametrize("number", FORMATS)
def test_it_gives_the_same_numbers(number: int) -> None:
    torch.set_default_dtype(torch.float32)
    vae = vae_lightning.load(FILES / f"format_{number}.ckpt")
    x = (torch.arange(3 * 64).reshape(3, 1, 8, 8) % 7 < 3).float()
    q = vae.encode(x)
    torch.testing.assert_close(q.mean, torch.tensor(MEANS), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vae.decode(q.mean).mean.flatten(1).sum(1), torch.tensor(SUMS), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("number", FORMATS)
def test_it_goes_on(number: int, tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    config, choices = configured(*MADE, "trainer.max_epochs=3", f"ckpt={FILES / f'format_{number}.ckpt'}")
    run = prepare(config, choices, tmp_path)
    fit(run)
    assert run.trainer.global_step == 21
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["vae_lightning"]["format"] == FORMAT


def test_there_is_one_of_each() -> None:
    assert {int(re.sub(r"\D", "", path.stem)) for path in FILES.glob("*.ckpt")} == set(FORMATS)
    assert max(FORMATS) == FORMAT


def test_one_of_the_future_is_refused(tmp_path: Path) -> None:
    saved = torch.load(FILES / f"format_{FORMAT}.ckpt", weights_only=True)
    saved["vae_lightning"]["format"] = FORMAT + 1
    torch.save(saved, tmp_path / "future.ckpt")
    with pytest.raises(UserError, match=rf"future\.ckpt: of another version of vae_lightning \(format {FORMAT + 1}\)"):
        vae_lightning.load(tmp_path / "future.ckpt")
