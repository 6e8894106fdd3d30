"""Adam on a card: in pieces the same bits as torch's own, in plain operations the same step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vae_lightning.optimizer import CardAdam, adam, in_pieces, plain

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


@pytest.mark.parametrize("bad", [None, 2])
@pytest.mark.parametrize(("decoupled", "decay"), WAYS)
def test_in_pieces_it_is_adam_bit_for_bit(decoupled: bool, decay: float, bad: int | None) -> None:
    how: dict[str, Any] = {"weight_decay": decay, "decoupled_weight_decay": decoupled, "bad": bad}
    one, other = trained(torch.optim.Adam, None, **how), trained(CardAdam, in_pieces, **how)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("decoupled", "decay"), WAYS)
def test_in_plain_operations_it_is_adam(decoupled: bool, decay: float) -> None:
    how: dict[str, Any] = {"weight_decay": decay, "decoupled_weight_decay": decoupled, "betas": (0.8, 0.97)}
    one, other = trained(torch.optim.Adam, None, **how), trained(CardAdam, plain, **how)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_on_a_processor_it_is_torchs_own() -> None:
    assert type(adam([nn.Parameter(torch.zeros(2))], fused=True)) is torch.optim.Adam
