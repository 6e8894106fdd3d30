"""Adam's step without detours against torch's own, and what becomes of numbers that are too small."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import pytest
import torch
from conftest import Small, fit, same
from torch import nn

from vae_lightning import optimizer as optimizers
from vae_lightning import straight
from vae_lightning.denormal import EVERY
from vae_lightning.straight import go_straight


@pytest.fixture
def straight_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each group that was updated without torch's own step."""
    count: list[int] = []
    real = straight._update
    monkeypatch.setattr(straight, "_update", lambda *a: count.append(1) or real(*a))
    return count


def steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], n: int = 5) -> None:
    torch.manual_seed(0)
    for i in range(n):
        for parameter in parameters[i == 2 :]:  # one is left out once
            parameter.grad = torch.randn_like(parameter)
        optimizer.param_groups[0]["lr"] *= 0.9
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None


@pytest.mark.parametrize("make", [optimizers.adam, optimizers.adamw])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_the_same_bits_as_torchs_step(make: Any, decay: float, straight_steps: list[int]) -> None:
    ours = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(2))]
    theirs = copy.deepcopy(ours)
    made = [
        make(
            [{"params": p[:2]}, {"params": p[2:], "lr": 0.3}], fused=True, lr=0.1, betas=(0.8, 0.9), weight_decay=decay
        )
        for p in (ours, theirs)
    ]
    go_straight(made[0])
    for optimizer, parameters in zip(made, (ours, theirs), strict=True):
        steps(optimizer, parameters)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for mine, other in zip(*(optimizer.state_dict()["state"].values() for optimizer in made), strict=True):
        assert same(mine, other)
    assert len(straight_steps) == 10


def test_who_hooks_a_step_or_refuses_it_gets_torchs_own(straight_steps: list[int]) -> None:
    weight, seen = nn.Parameter(torch.ones(2)), []
    optimizer = optimizers.adam([weight], fused=True)
    go_straight(optimizer)
    optimizer.found_inf = torch.ones((), dtype=torch.float32)
    steps(optimizer, [weight])
    assert torch.equal(weight, torch.ones(2))
    del optimizer.found_inf
    hook = optimizer.register_step_post_hook(lambda *_: seen.append(1))
    steps(optimizer, [weight])
    assert len(seen) == 5
    assert not straight_steps
    hook.remove()
    steps(optimizer, [weight])
    assert len(straight_steps) == 5


def test_what_is_no_fused_adam_stays_as_it_is() -> None:
    weight = nn.Parameter(torch.ones(2))
    for optimizer in (optimizers.adam([weight], fused=False), optimizers.adamax([weight])):
        go_straight(optimizer)
        assert "step" not in vars(optimizer)


class Faded(L.Callback):
    """Gives the weights of a pixel that is always black an average far below the range of full precision."""

    def __init__(self) -> None:
        self.left = list[float]()  # the largest of these averages after each step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        average = trainer.optimizers[0].state[next(pl_module.parameters())]["exp_avg"]
        if trainer.global_step == 1:
            average[:, 0] = 1e-310
        self.left.append(average[:, 0].abs().max().item())


def test_averages_that_have_faded_away_are_forgotten(small: Small) -> None:
    run, faded = small("data.batch_size=2", "trainer.max_epochs=2", "trainer.minibatches_per_step=1"), Faded()
    run.trainer.callbacks.append(faded)
    fit(run)
    assert min(faded.left[: EVERY - 1]) > 0
    assert max(faded.left[EVERY - 1 :]) == 0
