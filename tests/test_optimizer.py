"""Adam: the same bits as torch's own, whole or in pieces; in plain operations the same step; and what fades away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from conftest import Small, fit
from torch import Tensor, nn

from vae_lightning.denormal import EVERY
from vae_lightning.optimizer import FusedAdam, adam, adamax, adamw, fused, plain

SHAPES = [(300, 50), (50, 3), (7,)]


def trained(make: Callable[..., torch.optim.Optimizer], update: Callable[..., None] | None, **how: Any) -> list[Tensor]:
    """Parameters and the optimiser's state after some steps, of which one is left out if `bad` says so."""
    torch.manual_seed(0)
    bad = how.pop("bad", None)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    parameters.append(nn.Parameter(torch.randn(3, 2000).t()))  # of another layout
    optimizer: Any = make(parameters, 1e-2, fused=True, **how)
    if update is not None:
        optimizer.update = update
    for i in range(4):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        if bad is not None:
            optimizer.found_inf = torch.tensor(float(i == bad), dtype=torch.float32)
        optimizer.step()
    return [*(p.detach() for p in parameters), *(v for s in optimizer.state.values() for v in s.values())]


WAYS = [(decoupled, decay) for decoupled in (False, True) for decay in (0.0, 0.1)]


@pytest.mark.parametrize("size", [None, 1024])
@pytest.mark.parametrize("bad", [None, 2])
@pytest.mark.parametrize(("decoupled", "decay"), WAYS)
def test_it_is_adam_bit_for_bit(decoupled: bool, decay: float, bad: int | None, size: int | None) -> None:
    how: dict[str, Any] = {"weight_decay": decay, "decoupled_weight_decay": decoupled, "bad": bad}
    one, other = trained(torch.optim.Adam, None, **how), trained(FusedAdam, partial(fused, size=size), **how)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("decoupled", "decay"), WAYS)
def test_in_plain_operations_it_is_adam(decoupled: bool, decay: float) -> None:
    how: dict[str, Any] = {"weight_decay": decay, "decoupled_weight_decay": decoupled, "betas": (0.8, 0.97)}
    one, other = trained(torch.optim.Adam, None, **how), trained(FusedAdam, plain, **how)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_groups_have_numbers_of_their_own_and_who_has_no_gradient_stays() -> None:
    found = []
    for make in (adam, torch.optim.Adam):
        torch.manual_seed(0)
        a, b, c = (nn.Parameter(torch.randn(3)) for _ in range(3))
        optimizer = make([{"params": [a, b]}, {"params": [c], "lr": 0.3}], fused=True, lr=0.1)
        for i in range(4):
            a.grad, b.grad, c.grad = torch.randn(3), None if i == 2 else torch.randn(3), torch.randn(3)
            optimizer.step()
        found.append([a, b, c, *(v for s in optimizer.state.values() for v in s.values())])
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_hooks_and_closures_are_called() -> None:
    weight, called = nn.Parameter(torch.ones(2)), []
    optimizer = adam([weight], fused=True)
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))

    def closure() -> Tensor:
        called.append("closure")
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert called == ["before", "closure", "after"]
    assert (weight < 1).all()


def test_who_gets_which() -> None:
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, dtype=torch.float32))]
    assert all(type(make([weights[0]], fused=True)) is FusedAdam for make in (adam, adamw))
    assert type(adam([weights[0]], fused=False)) is type(adam(weights, fused=True)) is torch.optim.Adam
    assert type(adamax([weights[0]])) is torch.optim.Adamax


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
