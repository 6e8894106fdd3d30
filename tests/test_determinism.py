"""The same seed on the same machine, with the same versions and threads, gives the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch
from conftest import Small, fit, same, weights
from survival import SHORT, agree, run

from vae_lightning.results import versions

CASES = {
    "plain": ["pictures=true"],
    "convolutions": ["model=conv", "data.source.size=16", "callback=ema", "beta=warmup"],
    "codes": ["posterior=codebook", "prior=codes", "loss=vq", "posterior.codes=8", "posterior.grid=[2,2]"],
}


@pytest.mark.parametrize("case", CASES)
def test_two_runs_leave_the_same_bits(case: str, tmp_path: Path) -> None:
    """One of them in an interpreter of its own, with another hash seed, elsewhere."""
    how = [o for o in SHORT if "pictures" not in o and not (o.startswith("model.hidden") and case == "convolutions")]
    how += [*CASES[case], "hydra.run.dir=run"]
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    done = run("none", *how, cwd=folders[0])
    assert done.returncode == 0, done.stdout + done.stderr
    words = [sys.executable, "-m", "vae_lightning", *how]
    env = forked.environment(PYTHONHASHSEED="123")
    alone = subprocess.run(words, cwd=folders[1], env=env, capture_output=True, text=True, timeout=120)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    agree(*(folder / "run" for folder in folders))


def test_another_seed_is_noticed(tmp_path: Path) -> None:
    for seed in (1, 2):
        done = run("none", *SHORT, f"seed={seed}", f"hydra.run.dir={seed}", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises(AssertionError):
        agree(tmp_path / "1", tmp_path / "2")


def test_a_run_records_what_its_bits_depend_on(tmp_path: Path) -> None:
    done = run("none", *SHORT, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    made = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["made_with"]
    assert results["versions"] == versions() == {name: made[name] for name in versions()}
    assert results["device"] == made["device"] == "1 x cpu (1 threads)"
    assert results["data"]["sha256"] == made["data"]
    assert len(made["data"]) == 64


@pytest.mark.parametrize("option", ["model=conv", "model=ladder", "loss=factor", "loss=tc", "prior=flow", "prior=vamp"])
def test_deterministic_algorithms_give_the_same_bits_here(option: str, small: Small) -> None:
    """On the processor all are; on a GPU this is what `trainer.deterministic=true` asks for."""
    how = [option, "debug=false", "trainer.max_epochs=1", "data.batch_size=48"]
    before = torch.are_deterministic_algorithms_enabled()
    try:
        strict = small(*how, "trainer.deterministic=true", folder="strict")
        assert torch.are_deterministic_algorithms_enabled()
        found = weights(fit(strict))
    finally:
        torch.use_deterministic_algorithms(before)
    assert same(found, weights(fit(small(*how, folder="plain"))))
