"""What is not finite reaches no weight, no checkpoint and no result."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from conftest import Small, fit, same, weights
from lightning.pytorch.plugins.precision import MixedPrecision
from survival import SHORT, run

from vae_lightning.checkpoint import read_checkpoint
from vae_lightning.errors import NonFiniteError
from vae_lightning.finite import first_not_finite
from vae_lightning.train import Run

BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
HOW = ["debug=false", "data.batch_size=16", "trainer.minibatches_per_step=2"]  # six minibatches an epoch


class Break(L.Callback):
    """Before the minibatch after step 8 something is no longer a number."""

    def __init__(self, how: Callable[[Any], None]) -> None:
        self.how, self.kept = how, dict[str, torch.Tensor]()

    def on_train_batch_start(self, trainer: L.Trainer, lit: L.LightningModule, *_: object) -> None:
        if trainer.global_step == 8:
            self.kept = {name: value.clone() for name, value in lit.state_dict().items()}
            self.how(lit)


def in_the_loss(bad: float) -> Callable[[Any], None]:
    def harm(lit: Any) -> None:
        forward = lit.loss.forward
        lit.loss.forward = lambda *args: (forward(*args)[0] + bad, {})

    return harm


def in_the_gradient(bad: float) -> Callable[[Any], None]:
    """Of one weight, while the loss stays what it was."""

    def harm(lit: Any) -> None:
        weight = lit.model.decoder.layers[0].weight

        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            gradient = gradient.clone()
            gradient[0, 0] = bad
            return gradient

        weight.register_hook(spoil)

    return harm


def in_the_data(bad: float) -> Callable[[Any], None]:
    def harm(lit: Any) -> None:
        values = lit.values
        lit.values = lambda batch: values(batch._replace(x=batch.x.index_fill(3, torch.tensor([3]), bad)))

    return harm


PLACES = {"loss": in_the_loss, "gradient": in_the_gradient, "data": in_the_data}


def no_trace(run: Run, harm: Break, folder: Path) -> None:
    """The weights are those of step 8, and what is on the disk is finite."""
    assert harm.kept
    assert same(harm.kept, weights(run))
    for path in (folder / "checkpoints").glob("*.ckpt"):
        assert first_not_finite(read_checkpoint(path)["state_dict"]) is None
        assert math.isfinite(read_checkpoint(path)["val"]["loss"])
    assert not (folder / "results.json").exists()
    assert "nan" not in (folder / "metrics.csv").read_text()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "how", [[], ["trainer.gradient_clip_val=1"], ["callback=ema"], ["trainer.precision=bf16-mixed"]]
)
def test_it_is_refused_before_the_weights_move(
    place: str, bad: str, how: list[str], small: Small, tmp_path: Path
) -> None:
    run, harm = small(*HOW, *how), Break(PLACES[place](BAD[bad]))
    run.trainer.callbacks.insert(0, harm)
    words = "step 9: the gradient is not finite, and the loss is" if place == "gradient" else "step 9: the loss is"
    with pytest.raises(NonFiniteError, match=words):
        fit(run)
    no_trace(run, harm, tmp_path / "run")


@pytest.mark.parametrize("place", ["loss", "data"])
def test_a_validation_that_is_not_finite_writes_nothing(place: str, small: Small, tmp_path: Path) -> None:
    run = small(*HOW)

    class InValidation(L.Callback):
        def on_validation_start(self, trainer: L.Trainer, lit: L.LightningModule) -> None:
            PLACES[place](math.nan)(lit)

    run.trainer.callbacks.insert(0, InValidation())
    with pytest.raises(NonFiniteError, match=r"after step 6: val/loss.* not finite; no checkpoint was written"):
        fit(run)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_scaled_gradient_may_overflow_and_the_step_is_left_out(small: Small, tmp_path: Path) -> None:
    """In float16 the scale of the loss is lowered until it fits: steps are skipped, and that is no failure."""
    run = small(*HOW, "trainer.precision=32-true")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, growth_interval=10**6)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    run.trainer.strategy.precision_plugin = plugin
    harm = Break(in_the_gradient(math.inf))
    run.trainer.callbacks.insert(0, harm)
    fit(run)
    assert scaler.get_scale() < 2.0**60
    assert run.trainer.global_step == 12
    assert same(harm.kept, weights(run))  # from step 9 on every gradient was infinite
    assert first_not_finite(weights(run)) is None


@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_on_one_of_two_processes_it_ends_both(place: str, tmp_path: Path) -> None:
    (tmp_path / "conf" / "callback").mkdir(parents=True)
    (tmp_path / "conf" / "callback" / "harm.yaml").write_text(f"harm:\n  _target_: mine.{place}\n")
    (tmp_path / "mine.py").write_text(
        "import os, math\n"
        "from test_finite import Break, in_the_gradient, in_the_loss\n\n\n"
        "def loss():\n    return Break(in_the_loss(math.nan) if os.environ['RANK'] == '1' else lambda lit: None)\n\n\n"
        "def gradient():\n"
        "    return Break(in_the_gradient(math.nan) if os.environ['RANK'] == '1' else lambda lit: None)\n"
    )
    how = [*SHORT, "trainer.minibatches_per_step=2", "accelerator=ddp_cpu", "callback=harm", "hydra.run.dir=run"]
    done = run("none", "--config-dir", "conf", *how, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert ("step 9: the loss is nan" if place == "loss" else "step 9: the gradient is not finite") in said
    for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        assert first_not_finite(read_checkpoint(path)["state_dict"]) is None
    assert not (tmp_path / "run" / "results.json").exists()
