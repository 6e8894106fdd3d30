"""Every loss and every option: where it leads, whom it moves, what it keeps."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import names, options, ready, target
from torch import nn

from vae_lightning.optimizer import adam
from vae_lightning.trace import constant

CRITICS = [name for name in names("loss") if "critic_lr" in target("loss", name).parameters]


@pytest.mark.parametrize("loss", options("loss"))
def test_every_loss_lowers_itself(loss: str) -> None:
    model, function, x, c = ready(loss)
    groups = getattr(function, "parameter_groups", list)() or [{"params": list(function.parameters())}]
    optimizer = adam([{"params": list(model.parameters())}, *groups], fused=True, lr=5e-3)
    values = []
    for _ in range(50):
        value, terms = function(model, x, c)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
        assert all(math.isfinite(term.item()) for term in terms.values())
    assert sum(values[-5:]) < sum(values[:5]) - 1e-3


@pytest.mark.parametrize("option", options("model", "posterior", "prior", "likelihood", "loss"))
def test_every_parameter_of_every_option_gets_a_gradient(option: str) -> None:
    model, function, x, c = ready(option)
    for _ in range(2):  # a code that is never chosen gets none in one step
        function(model, x, c)[0].backward()
    for name, parameter in [*model.named_parameters(), *function.named_parameters()]:
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("option", options("model", "posterior", "prior", "likelihood"))
def test_saving_and_loading_gives_the_same_trace(option: str) -> None:
    model, function, x, c = ready(option)
    function(model, x, c)  # buffers move
    torch.manual_seed(7)
    other, *_ = ready(option)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(model.state_dict())
    traces = []
    for each in (model.eval(), other.eval()):
        torch.manual_seed(1)
        with torch.no_grad():
            traces.append(each(x[:5], c[:5], 2))
    for a, b in zip(traces[0].latents, traces[1].latents, strict=True):
        assert torch.equal(a.z, b.z)
    assert torch.equal(traces[0].log_likelihood(), traces[1].log_likelihood())


@pytest.mark.parametrize("option", options("prior"))
def test_samples_come_from_the_models_own_prior(option: str) -> None:
    model, _, _, c = ready(option)
    model.eval()
    torch.manual_seed(3)
    samples = model.sample(6, c[:6])
    torch.manual_seed(3)
    p = model.prior(c[:6])
    z = p.sample() if p.batch_shape else p.sample((6,))
    with torch.no_grad():
        assert torch.equal(samples, model.generate(z, c[:6]).mean)
        if target("prior", option.partition("=")[2]).traits["learned"]:
            for parameter in model.prior.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
            torch.manual_seed(3)
            assert not torch.equal(samples, model.sample(6, c[:6]))


BATCH_WIDE = {"tc", "factor", "dip", "mmd", "wae_mmd", "sliced_wasserstein", "aae", "vae_gan"}  # and rae's |W|^2


@pytest.mark.usefixtures("no_noise")
@pytest.mark.parametrize("loss", options("loss"))
def test_a_batch_costs_the_mean_of_its_images(loss: str) -> None:
    model, function, x, c = ready(loss)
    model.eval()
    with torch.no_grad():
        whole, terms = function(model, x[:9], c[:9])
        each = [function(model, x[i : i + 1], c[i : i + 1]) for i in range(9)]
    for name in ("distortion", "rate"):
        if name in terms:
            assert terms[name].item() == pytest.approx(sum(t[name].item() for _, t in each) / 9)
    if loss.partition("=")[2] not in BATCH_WIDE:
        extra = 0.0
        if loss == "loss=capacity":  # |mean rate - capacity|
            return
        assert whole.item() == pytest.approx(sum(v.item() for v, _ in each) / 9 + extra)


@pytest.mark.parametrize("loss", options("loss"))
def test_validation_needs_no_gradient_and_one_image_is_enough(loss: str) -> None:
    model, function, x, c = ready(loss)
    with torch.no_grad():
        value, _ = function(model.eval(), x[:1], c[:1])
    assert math.isfinite(value.item())


# ---- critics ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss", CRITICS)
def test_the_critic_learns_from_its_own_cost_and_the_model_does_not(loss: str) -> None:
    model, function, x, c = ready(f"loss={loss}")
    critic, rest = list(function.critic.parameters()), list(model.parameters())
    torch.manual_seed(4)
    value, _ = function(model, x, c)
    found = torch.autograd.grad(value, critic)
    torch.manual_seed(4)
    _, terms = function(model, x, c)
    own = torch.autograd.grad(terms["critic"], [*critic, *rest], allow_unused=True)
    for a, b in zip(found, own[: len(critic)], strict=True):
        torch.testing.assert_close(a, b)
    assert all(g is None or not g.any() for g in own[len(critic) :])
    assert [id(p) for group in function.parameter_groups() for p in group["params"]] == [id(p) for p in critic]


def test_constant_leaves_no_gradient_and_restores_what_was_trained() -> None:
    critic = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    critic[0].bias.requires_grad_(False)
    z = torch.randn(4, 2, requires_grad=True)
    with constant(critic):
        critic(z).sum().backward()
    assert all(p.grad is None for p in critic.parameters())
    assert z.grad.abs().sum() > 0
    assert [p.requires_grad for p in critic.parameters()] == [True, False, True, True]


@pytest.mark.parametrize("loss", CRITICS)
def test_two_groups_are_two_optimisers_bit_for_bit(loss: str) -> None:
    results = []
    for apart in (False, True):
        model, function, x, c = ready(f"loss={loss}")
        groups = function.parameter_groups()
        if apart:
            made = [adam(model.parameters(), True, 1e-3), adam(groups, True, 1e-3)]
        else:
            made = [adam([{"params": list(model.parameters())}, *groups], True, 1e-3)]
        torch.manual_seed(9)
        for _ in range(5):
            value, _ = function(model, x, c)
            for optimizer in made:
                optimizer.zero_grad()
            value.backward()
            for optimizer in made:
                optimizer.step()
        results.append([p.detach().clone() for p in [*model.parameters(), *function.parameters()]])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
