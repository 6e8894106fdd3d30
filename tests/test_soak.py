"""Short runs of any valid combination of options, killed at random and continued: nothing breaks, hangs or leaks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import COMPANIONS, TRAINING, names
from survival import agree, left_running, run

from vae_lightning.check import problems
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError
from vae_lightning.train import train

RUNS = int(os.environ.get("VAE_LIGHTNING_SOAK", "200"))
PAGE = resource.getpagesize()
GROUPS = [
    group
    for group in ("model", "posterior", "prior", "likelihood", "loss", "beta", "optimizer", "scheduler")
    if group in TRAINING
]
SMALL = {
    "model": ["model.latent_dim=4"],
    "model=mlp": ["model.hidden=[16]"],
    "model=gated": ["model.hidden=[16]"],
    "posterior=codebook": ["posterior.codes=8"],
    "prior=vamp": ["prior.pseudo_inputs=7"],
    "loss=factor": ["loss.critic_hidden=[16]"],
    "loss=vae_gan": ["loss.critic_channels=[4,8]"],
    "loss=m2": ["data.labelled=20"],
}
SHORT = [
    "data=digits", "data.limit=48", "data.batch_size=24", "data.source.size=16", "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false", "accelerator=cpu", "trainer.log_every_n_steps=1",
]  # fmt: skip  # two steps an epoch
PLACES = [
    "minibatch:1",
    "minibatch:3",
    "validation:1",
    "validation:2",
    "epoch:1",
    "start:2",
    "save:9",
    "save:31",
    "test:1",
]


def drawn(dice: random.Random) -> list[str]:
    """A combination that trains."""
    while True:
        said = [f"{group}={dice.choice(names(group))}" for group in GROUPS if dice.random() < 0.5]
        extra = [o for option in said for o in [*COMPANIONS.get(option, []), *SMALL.get(option, [])]]
        extra += ["callback=ema"] * (dice.random() < 0.2) + ["pictures=false"] * (dice.random() < 0.8)
        extra += [f"trainer.minibatches_per_step={dice.choice([1, 2, 16])}", f"seed={dice.randrange(9)}"]
        extra += ["trainer.accumulate_grad_batches=2"] * (dice.random() < 0.2)
        extra += ["data.binarize=none"] * (dice.random() < 0.2)
        overrides = list({o.partition("=")[0]: o for o in [*said, *extra]}.values())
        try:
            config, choices = compose([*SHORT, *overrides])
        except Exception:  # an option that lacks a key of another
            continue
        if not problems(config, choices):
            return [*SHORT, *overrides]


def memory() -> float:
    """Of this process, in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_nothing_breaks_hangs_or_leaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice, sizes, ended = random.Random(0), list[float](), dict[str, int]()
    first = 0  # of the runs whose combination has run before
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(1)
    before: Any = None
    pool = [drawn(dice) for _ in range(RUNS // 2)]
    for n in range(RUNS):
        overrides = pool[n % len(pool)]  # the second time nothing is new to this process
        folder = tmp_path / str(n)
        for name in ("whole", "run"):
            (folder / name).mkdir(parents=True)
        said = " ".join(overrides[len(SHORT) :])
        config, choices = compose(overrides)
        try:
            train(config, choices, folder / "whole")
        except ConfigError:  # what only the data or the networks know; it is told before anything is trained
            assert not list((folder / "whole").iterdir()), said
            ended["refused"] = ended.get("refused", 0) + 1
            continue
        except Exception as error:
            raise AssertionError(f"run {n}: {said}") from error
        harm = f"{dice.choice(['SIGKILL', 'SIGTERM'])}@{dice.choice(PLACES)}"
        done = run(harm, *overrides, "hydra.run.dir=run", cwd=folder)
        assert done.returncode in (-9, 143, 0), f"run {n}: {said}: {done.stdout}{done.stderr}"
        ended[harm] = ended.get(harm, 0) + 1
        if done.returncode:
            done = run("none", "ckpt=run", cwd=folder)
            if done.returncode == 2:
                assert not list((folder / "run").rglob("*.ckpt")), f"run {n}: {said}: {done.stderr}"
                continue
        assert done.returncode == 0, f"run {n}: {said} {harm}: {done.stdout}{done.stderr}"
        try:
            agree(folder / "whole", folder / "run")
        except AssertionError as error:
            raise AssertionError(f"run {n}: {said} {harm}: {error}") from error
        assert left_running(folder) == []
        sizes.append(memory())
        if n < len(pool):
            first = len(sizes)
            before = handles(), threading.active_count()
    slope = np.polyfit(range(len(sizes) - first), sizes[first:], 1)[0]
    with capsys.disabled():
        print(f"\n{RUNS} runs, {sum(ended.values())} harmed: {ended}")
        print(f"memory {sizes[0]:.0f} MB at first, {sizes[first]:.0f} MB when each combination has run once, ", end="")
        print(f"{sizes[-1]:.0f} MB when each has run twice: {1000 * slope:.0f} kB a run")
    assert not multiprocessing.active_children()
    assert handles() <= before[0] + 2
    assert threading.active_count() <= before[1] + 1
    assert slope < 0.5  # MB a run
