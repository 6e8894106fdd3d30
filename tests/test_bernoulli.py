"""The density of binary pixels, and its gradient, against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_lightning.likelihood.bernoulli import Bernoulli, cross_entropy


def by_torch(logits: Tensor, x: Tensor) -> Tensor:
    """-log p(x) in nats, shape (...)."""
    return F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


@pytest.mark.parametrize("pixels", [1, 7, 48, 784])
def test_density_and_gradient_are_those_of_torch(pixels: int) -> None:
    logits = (20 * torch.randn(3, 5, pixels)).requires_grad_()
    x, weight = torch.rand(5, pixels).round(), torch.rand(3, 5)
    log_prob = Bernoulli((1, 1, pixels))(logits.view(3, 5, 1, 1, -1)).log_prob(x.view(5, 1, 1, -1))
    torch.testing.assert_close(log_prob, -by_torch(logits, x))
    ours, theirs = (torch.autograd.grad((v * weight).sum(), logits)[0] for v in (log_prob, -by_torch(logits, x)))
    torch.testing.assert_close(ours, theirs)
    without = Bernoulli((1, 1, pixels))(logits.detach().view(3, 5, 1, 1, -1)).log_prob(x.view(5, 1, 1, -1))
    torch.testing.assert_close(without, log_prob.detach())


def test_many_images_under_one_density_and_one_image_under_many() -> None:
    logits, x = torch.randn(4, 1, 2, 3), torch.rand(5, 4, 1, 2, 3).round()
    one = Bernoulli((1, 2, 3))
    torch.testing.assert_close(one(logits).log_prob(x), one(logits.expand_as(x)).log_prob(x))
    y = x[0]
    torch.testing.assert_close(one(10 * x).log_prob(y), one(10 * x).log_prob(y.expand_as(x)))


def test_float32_is_near_float64() -> None:
    """Also with confident pixels: within 1e-3 nats in each of many images, without a bias."""
    x = torch.rand(300, 784).round()
    logits = torch.where(x > 0, 1.0, -1.0) * (8 + 8 * torch.randn(300, 784))
    exact = by_torch(logits.float().double(), x)
    error = cross_entropy(logits.float(), x.float()).double() - exact
    assert error.abs().max() < 1e-3
    assert error.mean().abs() < 3e-5


@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_sure_pixels_cost_their_logit_when_wrong(logit: float) -> None:
    logits = torch.full((4096,), logit, dtype=torch.float32)
    wrong = torch.full((4096,), float(logit < 0))
    assert cross_entropy(logits, wrong) == pytest.approx(4096 * (abs(logit) if logit else 0.6931472), rel=1e-6)
    assert cross_entropy(logits, 1 - wrong) == pytest.approx(0.0 if logit else 4096 * 0.6931472, rel=1e-6, abs=1e-30)
