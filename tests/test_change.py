"""What a run that goes on is told otherwise: refused with the difference where it matters, else said."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Small, composed, fit, options, same, weights

from vae_lightning.change import FREE, NEVER, below, leaves
from vae_lightning.check import plain
from vae_lightning.errors import ConfigError
from vae_lightning.train import Run

HOW = ["data.batch_size=16", "trainer.max_epochs=1"]
MATTER = {
    "data.batch_size=8": "data.batch_size: 16 then, 8 now",
    "data.val_size=100": "data.val_size: 200 then, 100 now",
    "data.source.size=8": "data.source.size: 28 then, 8 now",
    "data=shapes": "data.source: digits then, shapes now",
    "seed=1": "seed: 0 then, 1 now",
    "loss.beta=4": "loss.beta: 1.0 then, 4 now",
    "loss=iwae": "loss: elbo then, iwae now",
    "beta=warmup": "beta.epochs: 0.0 then, 10.0 now",
    "optimizer.lr=0.01": "optimizer.lr: 0.001 then, 0.01 now",
    "optimizer=adamw": "optimizer: adam then, adamw now",
    "trainer.precision=32-true": "trainer.precision: 64-true then, 32-true now",
    "trainer.gradient_clip_val=1": "trainer.gradient_clip_val: null then, 1 now",
    "trainer.accumulate_grad_batches=2": "trainer.accumulate_grad_batches: 1 then, 2 now",
    "callback=ema": "callback.ema: null then, ema now",
}
BELONG = {
    "model.hidden=[8]": "model.hidden: [64] then, [8] now",
    "model=conv": "model: mlp then, conv now",
    "posterior=laplace": "posterior: normal then, laplace now",
    "prior=mixture": "prior: normal then, mixture now",
    "condition=label": "condition: null then, label now",
    "scheduler=cosine": "scheduler: none then, cosine now",
}
MAY = {
    "trainer.max_epochs=2": "trainer.max_epochs=2; it was 1",
    "trainer.minibatches_per_step=2": "trainer.minibatches_per_step=2; it was 16",
    "trainer.log_every_n_steps=7": "trainer.log_every_n_steps=7; it was 50",
    "logger=none": "logger",
    "pictures=false": "pictures=False; it was True",
    "data.eval_batch_size=64": "data.eval_batch_size=64; it was 512",
    "callback=early_stopping": "callback.early_stopping",
}


@pytest.fixture
def begun(small: Small, tmp_path: Path) -> str:
    fit(small(*HOW))
    return f"ckpt={tmp_path / 'run'}"


def test_what_matters_is_refused_with_the_difference(begun: str, small: Small) -> None:
    """All of it on one run; named and asked for, each is done."""
    for change, words in MATTER.items():
        key = change.partition("=")[0]
        with pytest.raises(ConfigError) as error:
            small(*HOW, begun, change)
        assert words in str(error.value), change
        assert re.search(rf"Leave it as it was, or say resume\.override=\[.*{key}", str(error.value)), change
    small(*HOW, begun, "loss.beta=4", "seed=1", "resume.override=[loss,seed]")


def test_what_belongs_to_a_run_is_refused_even_if_it_is_asked_for(begun: str, small: Small) -> None:
    for change, words in BELONG.items():
        key = change.partition("=")[0]
        with pytest.raises(ConfigError, match=re.escape(f"{words}: belongs to the run; begin another one")):
            small(*HOW, begun, change, f"resume.override=[{key}]")


def test_what_may_change_is_said(begun: str, small: Small, caplog: pytest.LogCaptureFixture) -> None:
    for change, words in MAY.items():
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="vae_lightning"):
            small(*HOW, begun, change)
        assert f"going on with {words}" in caplog.text, change


def test_every_key_is_of_one_kind() -> None:
    """What is free, or belongs to a run, is a key that there is."""
    config = plain(composed("callback=early_stopping")[0])
    names = [key for key, _ in leaves(config)]
    for part in (*FREE, *NEVER):
        assert any(below(name, [part]) for name in names) or part == "data.source.path", part  # of data=vectors
    assert not [part for part in FREE if below(part, NEVER)]


def test_nothing_is_refused_that_was_told_the_same(begun: str, small: Small) -> None:
    small(*HOW, begun)


@pytest.mark.parametrize("option", options("scheduler"))
def test_a_new_learning_rate_is_used(option: str, small: Small, tmp_path: Path) -> None:
    """As far down as the scheduler has led the old one; the rest of the way as it would have led the new one."""
    how = ["data.batch_size=16", option, "trainer.max_epochs=4", "callback=early_stopping"]
    half = small(*how)
    half.trainer.fit_loop.max_epochs = 2
    fit(half)
    before = half.trainer.optimizers[0].param_groups[0]["lr"]
    asked = [f"ckpt={tmp_path / 'run'}", "optimizer.lr=0.01", "optimizer.betas=[0.5,0.9]"]
    with pytest.raises(ConfigError, match=r"resume\.override=\[optimizer\.lr,optimizer\.betas\]"):
        small(*how, *asked)
    run = small(*how, *asked, "resume.override=[optimizer]")
    seen: list[tuple[float, tuple[float, ...]]] = []

    def look(run: Run) -> None:
        step = run.lit.step.update

        def update(lit: object, optimizer: object) -> None:
            group = run.trainer.optimizers[0].param_groups[0]
            seen.append((float(group["lr"]), tuple(group["betas"])))
            step(lit, optimizer)

        run.lit.step.update = update

    look(run)
    run.trainer.callbacks = [c for c in run.trainer.callbacks if type(c).__name__ != "Accelerate"]
    fit(run)
    assert seen[0] == (pytest.approx(10 * before), (0.5, 0.9))
    if "cosine" in option:
        rates = [0.01 * (1 + np.cos(np.pi * i / 24)) / 2 for i in range(12, 24)]
        assert [rate for rate, _ in seen] == pytest.approx(rates)


def test_a_scheduler_that_ends_with_the_run_refuses_a_longer_one(small: Small, tmp_path: Path) -> None:
    fit(small("scheduler=cosine"))
    ckpt = f"ckpt={tmp_path / 'run'}"
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs: 2 then, 4 now"):
        small("scheduler=cosine", ckpt, "trainer.max_epochs=4")
    small("scheduler=cosine", ckpt, "trainer.max_epochs=4", "resume.override=[trainer.max_epochs]")


def test_other_images_under_the_same_name_are_noticed(small: Small, tmp_path: Path) -> None:
    how = ["data=vectors", f"data.source.path={tmp_path / 'x.npy'}", "data.val_size=9", "likelihood=normal"]
    how += ["data.binarize=none"]
    np.save(tmp_path / "x.npy", np.arange(200.0).reshape(100, 2))
    fit(small(*how, "trainer.max_epochs=1"))
    whole = weights(fit(small(*how, folder="other")))
    ckpt = f"ckpt={tmp_path / 'run'}"
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")  # the same numbers under another name
    moved = [f"data.source.path={tmp_path / 'y.npy'}", ckpt]
    assert same(whole, weights(fit(small(*how, *moved))))
    np.save(tmp_path / "x.npy", np.arange(200.0).reshape(100, 2) + 1)
    with pytest.raises(ConfigError, match=r"the images are not those that the run has begun with"):
        small(*how, ckpt)
    small(*how, ckpt, "resume.override=[data]")


def test_other_versions_are_told(small: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(small(*HOW))
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    known = saved["made_with"]
    assert {"torch", "lightning", "vae-lightning", "device", "data"} <= known.keys()
    assert f"{torch.get_num_threads()} threads" in known["device"]
    saved["made_with"]["torch"] = "1.0"
    torch.save(saved, path)
    path.with_name("last.ckpt.sha256").unlink()
    fit(small(*HOW[:1], f"ckpt={path}"))
    assert f"unbroken run: torch 1.0 then, {torch.__version__} now" in caplog.text


def test_a_schedule_that_follows_the_epochs_is_named(small: Small, tmp_path: Path) -> None:
    how = ["posterior=gumbel", "prior=categorical"]
    fit(small(*how))
    ckpt = f"ckpt={tmp_path / 'run'}"
    with pytest.raises(ConfigError, match=r"say resume\.override=\[posterior\.anneal\.epochs\]"):
        small(*how, ckpt, "trainer.max_epochs=4")
    small(*how, ckpt, "trainer.max_epochs=4", "resume.override=[posterior.anneal.epochs]")
