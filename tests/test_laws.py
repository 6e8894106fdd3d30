"""Formulas against exact answers, in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, LowRankMultivariateNormal, Normal, kl_divergence

from vae_lightning.build import build_model, make
from vae_lightning.compose import compose
from vae_lightning.loss.elbo import ELBO
from vae_lightning.model.vae import VAE, Inference
from vae_lightning.posterior.normal import Normal as NormalPosterior
from vae_lightning.prior.normal import Normal as NormalPrior

SIGMA, PIXELS, LATENTS = 0.5, (1, 2, 3), 2


class Affine(nn.Module):
    """x, c -> A x + b, reshaped."""

    def __init__(self, matrix: Tensor, bias: Tensor, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.matrix, self.bias = nn.Parameter(matrix), nn.Parameter(bias)
        self.in_dims, self.out_shape = len(in_shape), out_shape

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return (x.flatten(-self.in_dims) @ self.matrix.T + self.bias).unflatten(-1, self.out_shape)


class FixedNormal(nn.Module):
    shape, param_shape, density = PIXELS, PIXELS, True

    def forward(self, mean: Tensor) -> Independent:
        return Independent(Normal(mean, SIGMA), 3)


def linear_gaussian() -> tuple[VAE, LowRankMultivariateNormal]:
    """x = W z + b + noise with orthogonal columns of W, so that the exact posterior is diagonal; and its p(x).

    Bishop (2006), "Pattern Recognition and Machine Learning", eq. 12.35 and 12.42.
    """
    d = math.prod(PIXELS)
    w = torch.linalg.qr(torch.randn(d, LATENTS))[0] * torch.tensor([2.0, 0.7])
    b = torch.randn(d)
    variance = 1 / (1 + (w**2).sum(0) / SIGMA**2)
    a = variance[:, None] * w.T / SIGMA**2
    encoder = Affine(torch.cat([a, torch.zeros_like(a)]), torch.cat([-a @ b, variance.log()]), PIXELS, (2 * LATENTS,))
    infer = Inference(encoder, NormalPosterior((LATENTS,)))
    vae = VAE(infer, NormalPrior((LATENTS,)), Affine(w, b, (LATENTS,), PIXELS), FixedNormal())
    return vae, LowRankMultivariateNormal(b, w, torch.full((d,), SIGMA**2))


def none(n: int) -> Tensor:
    return torch.zeros(n, 0)


@pytest.mark.parametrize("samples", [1, 7])
def test_elbo_at_the_exact_posterior_is_the_likelihood(samples: int) -> None:
    vae, exact = linear_gaussian()
    x = exact.sample((50,))
    loss, terms = ELBO(samples=samples, analytic=False)(vae, x.view(-1, *PIXELS), none(50))
    assert loss.item() == pytest.approx(-exact.log_prob(x).mean().item(), abs=1e-9)
    assert (terms["distortion"] + terms["rate"]).item() == pytest.approx(loss.item(), abs=1e-9)
    torch.testing.assert_close(vae.log_prob(x.view(-1, *PIXELS), samples=5, chunk=2), exact.log_prob(x))


@pytest.mark.parametrize("analytic", [True, False])
@pytest.mark.parametrize("wrong", ["mean", "variance", "nothing"])
def test_elbo_lies_below_the_likelihood_by_the_kl_to_the_exact_posterior(wrong: str, analytic: bool) -> None:
    vae, exact = linear_gaussian()
    x = exact.sample((20,)).view(-1, *PIXELS)
    posterior = vae.encode(x)
    with torch.no_grad():
        vae.infer.encoder.bias[:LATENTS] += 0.3 * (wrong == "mean")
        vae.infer.encoder.bias[LATENTS:] += 0.8 * (wrong == "variance")
    gap = kl_divergence(vae.encode(x), posterior).mean().item()
    with torch.no_grad():
        loss, _ = ELBO(samples=20_000, analytic=analytic)(vae, x, none(20))
    below = exact.log_prob(x.flatten(1)).mean().item() + loss.item()
    assert below == pytest.approx(gap, abs=0.01)
    assert (gap > 0.05) == (wrong != "nothing")


def test_scale_names_mean_what_they_say() -> None:
    params = torch.tensor([[0.0, math.log(9.0)]])
    sigma = {s: NormalPosterior((1,), s)(params).stddev.item() for s in ("log_variance", "exp", "softplus")}
    assert sigma == pytest.approx({"log_variance": 3.0, "exp": 9.0, "softplus": math.log(10.0)})


@pytest.mark.parametrize("analytic", [True, False])
def test_beta_scales_the_rate_and_nothing_else(analytic: bool) -> None:
    vae, exact = linear_gaussian()
    x = exact.sample((10,)).view(-1, *PIXELS)
    results = {}
    for beta in (0.0, 1.0, 4.0):
        torch.manual_seed(1)
        results[beta] = ELBO(beta=beta, analytic=analytic)(vae, x, none(10))
    (loss0, terms), (loss4, terms4) = results[0.0], results[4.0]
    assert loss0.item() == pytest.approx(terms["distortion"].item())
    assert (loss4 - loss0).item() == pytest.approx(4 * terms["rate"].item())
    assert all(terms4[k] == terms[k] for k in terms)


def test_free_bits_charge_at_least_so_much_a_dimension() -> None:
    vae, exact = linear_gaussian()
    x = exact.sample((40,)).view(-1, *PIXELS)
    rates = kl_divergence(vae.encode(x).base_dist, vae.prior(none(1)).base_dist).mean(0)
    bits = rates.mean().item()  # one dimension lies above, one below
    loss, terms = ELBO(free_bits=bits)(vae, x, none(40))
    assert terms["rate"].item() == pytest.approx(rates.sum().item())
    assert (loss - terms["distortion"]).item() == pytest.approx(rates.clamp(min=bits).sum().item())
    assert loss - terms["distortion"] > terms["rate"]


def test_bernoulli_sums_to_one_and_agrees_with_torch() -> None:
    p = make(compose(["likelihood=bernoulli"])[0].likelihood, shape=(1, 2, 2))(torch.randn(3, 1, 2, 2))
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(16, 1, 1, 2, 2)
    torch.testing.assert_close(p.log_prob(images).logsumexp(0), torch.zeros(3))
    torch.testing.assert_close(p.log_prob(images), Independent(p.base_dist, 3).log_prob(images))
    with pytest.raises(ValueError, match="support"):
        p.log_prob(torch.full((1, 2, 2), 0.5))


def test_sigma_learns() -> None:
    head = make(compose(["likelihood=normal", "likelihood.scale=learned"])[0].likelihood, shape=(1, 1, 1))
    head(torch.zeros(1, 1, 1)).log_prob(torch.ones(1, 1, 1)).backward()
    # d/d log sigma of -(x / sigma)^2 / 2 - log sigma is (x / sigma)^2 - 1
    assert head.log_sigma.grad.item() == pytest.approx(99.0, rel=1e-5)


def test_cross_entropy_is_an_energy_and_never_a_likelihood() -> None:
    config, _ = compose(["likelihood=cross_entropy", "data.binarize=none"])
    model = build_model(config, shape=(1, 4, 4), n_context=0)
    with pytest.raises(ValueError, match="energy, not a likelihood"):
        model.log_prob(torch.rand(2, 1, 4, 4))
    grid = torch.linspace(0, 1, 10_001).view(-1, 1, 1, 1)
    px = make(config.likelihood, shape=(1, 1, 1))(torch.zeros(len(grid), 1, 1, 1))
    assert torch.trapezoid(px.log_prob(grid).exp(), grid.flatten()).item() == pytest.approx(0.5)  # not 1


def test_importance_sampling_rises_with_the_number_of_samples() -> None:
    vae, exact = linear_gaussian()
    with torch.no_grad():
        vae.infer.encoder.bias[LATENTS:] += 1.0
    x = exact.sample((2000,))
    estimates = [vae.log_prob(x.view(-1, *PIXELS), samples=k, chunk=64).mean().item() for k in (1, 8, 256)]
    assert estimates[0] < estimates[1] < estimates[2]
    assert estimates[2] == pytest.approx(exact.log_prob(x).mean().item(), abs=0.01)


def test_samples_have_the_moments_of_the_model() -> None:
    vae, exact = linear_gaussian()
    mean = vae.sample(100_000).flatten(1)
    torch.testing.assert_close(mean.mean(0), exact.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(mean.T.cov() + SIGMA**2 * torch.eye(6), exact.covariance_matrix, atol=0.1, rtol=0)
