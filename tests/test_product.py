"""Products by oneDNN against torch's own. Both are computed whatever this processor would choose."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import Small, fit, same, weights
from torch.autograd import gradcheck, gradgradcheck
from torch.func import vmap

from vae_lightning.ensemble.batched import linear
from vae_lightning.likelihood.bernoulli import CrossEntropy
from vae_lightning.model import product
from vae_lightning.model.product import Linear

pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this torch comes without oneDNN",
)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Products of any size by oneDNN; how many there were."""
    count: list[int] = []
    real = product.product
    monkeypatch.setattr(product, "LARGE", 0)
    monkeypatch.setattr(product, "faster", lambda: True)
    monkeypatch.setattr(product, "product", lambda *a: count.append(1) or real(*a))
    torch.set_default_dtype(torch.float32)
    return count


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 2), (64, 20, 400), (33, 784, 70)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, int, int], bias: bool, always: list[int]) -> None:
    n, before, after = shape
    linear, x = Linear(before, after, bias), torch.randn(n, before, requires_grad=True)
    places, by = [x, *linear.parameters()], torch.randn(n, after)
    ours, theirs = linear(x), F.linear(x, linear.weight, linear.bias)
    assert always
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    for mine, other in zip(torch.autograd.grad(ours, places, by), torch.autograd.grad(theirs, places, by), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)
        assert mine.stride() == other.stride()  # fused optimisers walk through both side by side


def test_a_gradient_of_the_gradient_passes(always: list[int]) -> None:
    linear, x = Linear(6, 4), torch.randn(5, 6, requires_grad=True)

    def penalty(y: torch.Tensor) -> torch.Tensor:
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), linear.weight)[0]

    torch.testing.assert_close(penalty(linear(x)), penalty(F.linear(x, linear.weight, linear.bias)))


@pytest.mark.parametrize("bias", [True, False])
def test_several_jobs_at_once_get_what_each_gets(bias: bool, always: list[int]) -> None:
    layers, x = [Linear(6, 4, bias) for _ in range(3)], torch.randn(3, 5, 6, requires_grad=True)
    names = [name for name, _ in layers[0].named_parameters()]
    stacks = [torch.stack([getattr(layer, name) for layer in layers]).detach().requires_grad_() for name in names]
    sums = vmap(lambda x, *own: linear(x, *own).square().sum())(x, *stacks)
    assert len(always) == 3
    found = torch.autograd.grad(sums.sum(), [x, *stacks], retain_graph=True)
    assert len(always) == 9
    assert all(gradient.is_contiguous() for gradient in found[1:])
    for j, layer in enumerate(layers):
        own = torch.autograd.grad(F.linear(x[j], *layer.parameters()).square().sum(), [x, *layer.parameters()])
        torch.testing.assert_close([gradient[j] for gradient in found], [own[0][j], *own[1:]])
    slope = torch.autograd.grad(sums.sum(), x, create_graph=True)[0]
    twice = torch.autograd.grad(slope.square().sum(), stacks[0])[0]
    for j, layer in enumerate(layers):
        value = F.linear(x[j], *layer.parameters()).square().sum()
        (own_slope,) = torch.autograd.grad(value, x, create_graph=True)
        own_twice = torch.autograd.grad(own_slope.square().sum(), layer.weight)[0]
        torch.testing.assert_close(twice[j], own_twice, rtol=1e-4, atol=1e-4)


def test_only_large_products_in_float32_go_there(always: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    linear, x = Linear(8, 4), torch.randn(16, 8)
    linear.double()(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        linear.float()(x)
    with torch.device("cpu"):  # one of the modes that look at every call
        linear(x)
    monkeypatch.setattr(product, "LARGE", 16 * 8 * 4 + 1)
    linear(x)
    assert not always
    monkeypatch.setattr(product, "LARGE", 16 * 8 * 4)
    linear(x)
    assert len(always) == 1


def test_training_is_the_same_bits_however_many_minibatches_a_step_has(always: list[int], small: Small) -> None:
    how = ["model.hidden=[40]", "data.batch_size=16", "data.binarize=dynamic", "trainer.precision=32-true"]
    one, other = fit(small(*how, folder="many")), fit(small(*how, "trainer.minibatches_per_step=1", folder="few"))
    assert same(weights(one), weights(other))
    assert len(always) > 100


def test_the_cross_entropy_has_gradients_of_every_order() -> None:
    logits, x = torch.randn(3, 6, requires_grad=True), torch.rand(3, 6).requires_grad_()
    assert gradcheck(CrossEntropy.apply, (logits, x))
    assert gradgradcheck(CrossEntropy.apply, (logits, x))
    many = vmap(CrossEntropy.apply)(logits.unsqueeze(1), x.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(many, CrossEntropy.apply(logits, x))
