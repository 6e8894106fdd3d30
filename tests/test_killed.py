"""A run that is killed at any moment, or asked to end, and goes on has the bits of one that was left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from survival import SHORT, agree, run, seen

from vae_lightning.whole import beside

VARIANTS = {
    "plain": [],
    "ema": ["callback=ema", "callback.ema.decay=0.9"],
    "accumulation": ["trainer.accumulate_grad_batches=2"],
    "annealed_beta": ["beta=warmup", "beta.epochs=2"],
    "temperature": ["posterior=gumbel", "prior=categorical", "model.latent_dim=8"],
    "codebook": ["posterior=codebook", "prior=codes", "loss=vq", "posterior.codes=8", "posterior.grid=[2,2]"],
    "critic": ["loss=factor", "loss.critic_hidden=[16]"],
}
KILLED = ["SIGKILL@start:2", "SIGKILL@minibatch:9", "SIGKILL@validation:2", "SIGKILL@save:50"]
ASKED = ["SIGTERM@minibatch:9", "SIGTERM@minibatch:12", "SIGINT@validation:2", "SIGUSR1@epoch:2", "SIGTERM@test:1"]
CODES = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 138}
CASES = [
    pytest.param(variant, harm, marks=[] if variant == "plain" or "SIGTERM@minibatch:9" in harm else pytest.mark.long)
    for variant in VARIANTS
    for harm in KILLED + ASKED
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run of a variant that nobody has harmed; made when it is asked for."""
    made: dict[str, Path] = {}

    def make(variant: str) -> Path:
        if variant not in made:
            cwd = tmp_path_factory.mktemp(variant)
            done = run("none", *SHORT, *VARIANTS[variant], "hydra.run.dir=run", cwd=cwd, seen="seen")
            assert done.returncode == 0, done.stdout + done.stderr
            made[variant] = cwd / "run"
        return made[variant]

    return make


@pytest.mark.parametrize(("variant", "harm"), CASES)
def test_a_run_that_was_ended_ends_bit_identical(
    variant: str, harm: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    done = run(harm, *SHORT, *VARIANTS[variant], "hydra.run.dir=run", cwd=tmp_path, seen="seen")
    assert done.returncode == CODES[harm.partition("@")[0]], done.stdout + done.stderr
    state = json.loads((tmp_path / "run" / "status.json").read_text())["state"]
    assert state == ("running" if "KILL" in harm else "interrupted")
    before = seen(tmp_path)
    done = run("none", "ckpt=run", cwd=tmp_path, seen="seen")
    assert done.returncode == 0, done.stdout + done.stderr
    agree(whole(variant), tmp_path / "run")
    after = seen(tmp_path)[len(before) :]
    every = seen(whole(variant).parent)
    assert before == every[: len(before)]
    assert after == every[len(every) - len(after) :]  # from the checkpoint on, and each minibatch once
    lost = len(before) + len(after) - len(every)
    assert lost == 0 if "KILL" not in harm else 0 <= lost <= 6  # at most the epoch that had begun


def test_the_comparison_sees_what_is_not_restored(whole: Callable[[str], Path], tmp_path: Path) -> None:
    """A position in the epoch, the moments of the optimiser, a point of a curve: each of them is missed."""
    harms = {
        "position": lambda saved: saved["loops"]["fit_loop"]["state_dict"]["combined_loader"][0].update(position=0),
        "optimizer": lambda saved: saved["optimizer_states"][0]["state"][0]["exp_avg"].zero_(),
        "meter": lambda saved: saved["meter"].update(names=[], rows=[], sizes=[]),
    }
    for name, harm in harms.items():
        done = run("SIGTERM@minibatch:9", *SHORT, f"hydra.run.dir={name}", cwd=tmp_path)
        assert done.returncode == 143, done.stdout + done.stderr
        path = tmp_path / name / "checkpoints" / "last.ckpt"
        saved = torch.load(path, weights_only=True)
        harm(saved)
        torch.save(saved, path)
        beside(path).unlink()
        done = run("none", f"ckpt={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        with pytest.raises(AssertionError):
            agree(whole("plain"), tmp_path / name)


@pytest.mark.parametrize("harm", ["SIGKILL@minibatch:9", "SIGTERM@minibatch:9"])
def test_each_example_is_seen_once_an_epoch(harm: str, tmp_path: Path) -> None:
    """Examples that carry their number; the second half in other portions."""
    np.save(tmp_path / "numbers.npy", np.arange(110.0)[:, None].repeat(2, 1))
    how = ["data=vectors", "data.source.path=numbers.npy", "data.val_size=4", "likelihood=normal", "data.batch_size=16"]
    rest = [o for o in SHORT if not o.startswith("data")]
    done = run(harm, *how, *rest, "hydra.run.dir=run", cwd=tmp_path, seen="seen")
    assert done.returncode == CODES[harm.partition("@")[0]], done.stdout + done.stderr
    done = run("none", "ckpt=run", "trainer.minibatches_per_step=3", cwd=tmp_path, seen="seen")
    assert done.returncode == 0, done.stdout + done.stderr
    by_number = {int(number): sums for number, *sums in map(str.split, seen(tmp_path))}
    assert len(by_number) == 3 * 6
    for epoch in range(3):
        found = sorted(float(x) / 2 for i in range(6) for x in by_number[6 * epoch + i])
        assert len(found) == len(set(found)) == 95  # 110 rows, of which 11 are for test and 4 for validation
