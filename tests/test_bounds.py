"""Bounds on log p(x) and their gradients, where log p(x) is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from conftest import composed, names, parts, target
from test_laws import LATENTS, PIXELS, SIGMA, linear_gaussian, none
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from vae_lightning.build import make
from vae_lightning.loss.elbo import ELBO
from vae_lightning.model.vae import VAE, Inference
from vae_lightning.prior.normal import Normal as NormalPrior

# How a posterior becomes N(mean, diag(variance)): its parameters from mean, log-variance (B, D) and its own shape.
EXACT: dict[str, Callable[[Tensor, Tensor, nn.Module], Tensor]] = {
    "normal": lambda m, v, head: torch.cat([m, v], -1),
    "normal_full": lambda m, v, head: torch.cat([m, v / 2, _zeros(m, head)], -1),
    "flow": lambda m, v, head: torch.cat([m, v, _zeros(m, head)], -1),
    "mixture": lambda m, v, head: torch.stack(
        [torch.cat([torch.full_like(m[:, :1], float(k)), m, v], -1) for k in range(head.param_shape[0])], -2
    ),
}


def _zeros(m: Tensor, head: nn.Module) -> Tensor:
    return torch.zeros(len(m), head.param_shape[0] - 2 * m.shape[1])


BOUNDS = {  # as an average over draws of f(log w_1, ..., log w_S); how the option says so
    "elbo": ["loss.analytic=false", "loss.samples=4"],
    "iwae": ["loss.samples=4"],
    "miwae": ["loss.groups=2", "loss.samples=2"],
    "piwae": ["loss.groups=2", "loss.samples=2"],
    "ciwae": ["loss.mix=0.3", "loss.samples=4"],
    "renyi": ["loss.alpha=0.4", "loss.samples=4"],
}


def losses() -> list[str]:
    """Every loss with an estimator of its gradient, and the ELBO."""
    return ["elbo", *[name for name in names("loss") if "estimator" in target("loss", name).parameters]]


def test_every_bound_is_tested() -> None:
    assert set(losses()) == set(BOUNDS)


class Exact(nn.Module):
    """x -> the parameters of a posterior of any kind that equals the exact one, plus an offset."""

    def __init__(self, encoder: nn.Module, head: nn.Module, name: str) -> None:
        super().__init__()
        self.encoder, self.name, self._head = encoder, name, (head,)
        self.offset = nn.Parameter(torch.zeros(head.param_shape))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x, c).chunk(2, -1)
        return EXACT[self.name](mean, log_variance, self._head[0]) + self.offset


def with_posterior(name: str, *overrides: str) -> tuple[VAE, MultivariateNormal]:
    """The linear-Gaussian model with its exact posterior, told by the posterior option `name`; and p(x)."""
    vae, exact = linear_gaussian()
    head = make(composed(f"posterior={name}", *overrides)[0].posterior, latent_shape=(LATENTS,)).double()
    for parameter in head.parameters():
        nn.init.zeros_(parameter)  # a flow without parameters is the identity
    return VAE(Inference(Exact(vae.infer.encoder, head, name), head), vae.prior, vae.decoder, vae.likelihood), exact


POSTERIORS = [
    ("normal",), ("normal_full",), ("mixture", "posterior.components=3"),
    *[("flow", f"posterior.kind={kind}") for kind in ("planar", "radial", "iaf", "nsf")],
]  # fmt: skip


@pytest.mark.parametrize("posterior", POSTERIORS, ids=" ".join)
@pytest.mark.parametrize("loss", losses())
def test_a_bound_is_log_p_at_the_exact_posterior_and_below_it_elsewhere(loss: str, posterior: tuple[str, ...]) -> None:
    vae, exact = with_posterior(*posterior)
    bound = make(composed(f"loss={loss}", *BOUNDS[loss])[0].loss)
    x = exact.sample((40,))
    images, truth = x.view(-1, *PIXELS), exact.log_prob(x).mean().item()
    value, terms = bound(vae, images, none(40))
    assert -value.item() == pytest.approx(truth, abs=1e-8)
    assert (terms["distortion"] + terms["rate"]).item() == pytest.approx(-truth, abs=1e-8)
    with torch.no_grad():
        vae.infer.encoder.offset.add_(0.3 * torch.randn_like(vae.infer.encoder.offset))
        many = images.repeat(100, 1, 1, 1)
        value = bound(vae, many, none(len(many)))[0].item()
    assert -value < truth - 0.003


@pytest.mark.parametrize("posterior", [*POSTERIORS, ("laplace",)], ids=" ".join)
def test_more_draws_tighten_the_bound(posterior: tuple[str, ...]) -> None:
    if posterior == ("laplace",):
        config, _ = composed("posterior=laplace", "model=linear", f"model.latent_dim={LATENTS}", "data.binarize=none",
                             "likelihood=normal", f"likelihood.sigma={SIGMA}")  # fmt: skip
        vae, _ = parts(config, PIXELS)
        exact = vae_marginal(vae)
    else:
        vae, exact = with_posterior(*posterior)
        with torch.no_grad():
            vae.infer.encoder.offset.add_(0.3 * torch.randn_like(vae.infer.encoder.offset))
            for parameter in vae.infer.posterior.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    x = exact.sample((500,))
    with torch.no_grad():
        estimates = [vae.log_prob(x.view(-1, *PIXELS), samples=k, chunk=50).mean().item() for k in (1, 5, 50)]
    assert estimates[0] < estimates[1] < estimates[2] < exact.log_prob(x).mean().item() + 0.02


def vae_marginal(vae: VAE) -> MultivariateNormal:
    """p(x) of a linear decoder with normal pixels."""
    layer = vae.decoder.layers[-1]
    w, b = layer.weight.detach(), layer.bias.detach()
    return MultivariateNormal(b, w @ w.T + SIGMA**2 * torch.eye(len(b)))


@pytest.mark.parametrize("order", [("elbo", "ciwae"), ("ciwae", "iwae"), ("miwae", "iwae"), ("renyi", "iwae")])
def test_bounds_have_their_order(order: tuple[str, str]) -> None:
    """On the same four draws: E log w <= mixtures of it and the others <= log E w."""
    vae, exact = with_posterior("normal")
    with torch.no_grad():
        vae.infer.encoder.offset.add_(0.5)
    x = exact.sample((200,)).view(-1, *PIXELS)
    values = []
    for name in order:
        torch.manual_seed(5)
        values.append(-make(composed(f"loss={name}", *BOUNDS[name])[0].loss)(vae, x, none(200))[0].item())
    assert values[0] < values[1]


# ---- gradients ----------------------------------------------------------------------------------------------------
N = 40_000


class Scalar(nn.Module):
    """z ~ N(0, 1), x = w z + noise, q = N(m, exp(v)): one number each, and parameters of their own for each image."""

    def __init__(self, m: float, v: float, w: float) -> None:
        super().__init__()
        self.m, self.v, self.w = (nn.Parameter(torch.full((N, 1), value)) for value in (m, v, w))

    def encoder(self) -> nn.Module:
        return _Function(lambda x, c: torch.cat([self.m, self.v], -1))

    def decoder(self) -> nn.Module:
        return _Function(lambda z, c: (z * self.w).unsqueeze(-1).unsqueeze(-1))


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.function(x, c)


class _Pixel(nn.Module):
    shape, density = (1, 1, 1), True

    def forward(self, mean: Tensor) -> torch.distributions.Independent:
        return torch.distributions.Independent(Normal(mean, SIGMA), 3)


class _Parts(VAE):
    """Says which parameters are p's, although they live in one place."""

    def generative(self) -> list[nn.Module]:
        return [nn.ParameterList([self.owner[0].w])]


X, POINT = 0.7, (0.4, -0.5, 1.2)
COMBINE: dict[str, tuple[list[str], Callable[[Tensor], Tensor]]] = {
    "iwae": (["loss.samples=2"], lambda log_w: log_w.logsumexp(0) - math.log(2)),
    "miwae": (["loss.groups=2", "loss.samples=1"], lambda log_w: log_w.mean(0)),
    "ciwae": (
        ["loss.mix=0.3", "loss.samples=2"],
        lambda log_w: 0.3 * log_w.mean(0) + 0.7 * (log_w.logsumexp(0) - math.log(2)),
    ),
    "renyi": (["loss.alpha=0.4", "loss.samples=2"], lambda log_w: ((0.6 * log_w).logsumexp(0) - math.log(2)) / 0.6),
}


def quadrature(m: float, v: float, w: float, combine: Callable[[Tensor], Tensor]) -> float:
    """The bound from two draws, exactly: Gauss-Hermite quadrature over both."""
    import numpy as np

    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(60))
    weights = weights / weights.sum()
    z = m + math.exp(v / 2) * nodes
    log_w = (
        Normal(0.0, 1.0).log_prob(z) + Normal(w * z, SIGMA).log_prob(torch.tensor(X))
        - Normal(m, math.exp(v / 2)).log_prob(z)
    )  # fmt: skip
    pairs = torch.stack([log_w[:, None].expand(60, 60), log_w[None, :].expand(60, 60)])
    return float((combine(pairs) * weights[:, None] * weights[None, :]).sum())


def finite_difference(i: int, combine: Callable[[Tensor], Tensor]) -> float:
    """The derivative of the bound by the i-th of m, v, w."""
    step = 1e-4
    ends = [quadrature(*[p + sign * step * (j == i) for j, p in enumerate(POINT)], combine) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def gradients(loss: str, *overrides: str, point: tuple[float, float, float] = POINT) -> list[Tensor]:
    """The gradient of the bound by m, v and w from two draws, N times."""
    scalar = Scalar(*point)
    head = make(composed("posterior=normal")[0].posterior, latent_shape=(1,))
    vae = _Parts(Inference(scalar.encoder(), head), NormalPrior((1,)), scalar.decoder(), _Pixel())
    vae.owner = (scalar,)
    function = make(composed(f"loss={loss}", *overrides)[0].loss)
    value, _ = function(vae, torch.full((N, 1, 1, 1), X), none(N))
    (-value * N).backward()
    return [parameter.grad.flatten() for parameter in (scalar.m, scalar.v, scalar.w)]


def agrees(samples: Tensor, truth: float) -> bool:
    return abs(samples.mean().item() - truth) < 5 * samples.std().item() / math.sqrt(N) + 1e-6


@pytest.mark.parametrize("estimator", ["standard", "dreg"])
@pytest.mark.parametrize("loss", COMBINE)
def test_a_gradient_is_that_of_the_bound(loss: str, estimator: str) -> None:
    """In expectation, by finite differences of the exact bound."""
    overrides, combine = COMBINE[loss]
    found = gradients(loss, *overrides, f"loss.estimator={estimator}")
    for i, samples in enumerate(found):
        assert agrees(samples, finite_difference(i, combine)), "mvw"[i]


@pytest.mark.parametrize("estimator", ["standard", "stl", "dreg"])
def test_piwae_gives_each_part_its_own_bound(estimator: str) -> None:
    found = gradients("piwae", "loss.groups=2", "loss.samples=1", f"loss.estimator={estimator}")
    encoder, decoder = COMBINE["miwae"][1], COMBINE["iwae"][1]
    assert all(agrees(found[i], finite_difference(i, encoder)) for i in (0, 1))
    assert agrees(found[2], finite_difference(2, decoder))
    assert not agrees(found[2], finite_difference(2, encoder))


@pytest.mark.parametrize(
    ("loss", "overrides"),
    [("miwae", COMBINE["miwae"][0]), ("renyi", ["loss.alpha=1", "loss.samples=2"]), ("ciwae", ["loss.mix=1"])],
    ids=str,
)
def test_stl_is_unbiased_where_draws_do_not_mix(loss: str, overrides: list[str]) -> None:
    for i, samples in enumerate(gradients(loss, *overrides, "loss.estimator=stl")):
        assert agrees(samples, finite_difference(i, COMBINE["miwae"][1]))


def test_stl_is_biased_where_they_do() -> None:
    """Tucker et al. (2019), section 3: what `dreg` is for."""
    overrides, combine = COMBINE["iwae"]
    found = gradients("iwae", *overrides, "loss.estimator=stl")
    assert not all(agrees(found[i], finite_difference(i, combine)) for i in (0, 1))


@pytest.mark.parametrize("loss", [name for name in losses() if name != "elbo"])
@pytest.mark.parametrize("estimator", ["standard", "stl", "dreg"])
def test_at_the_exact_posterior_the_gradient_has_no_variance(loss: str, estimator: str) -> None:
    """Roeder et al. (2017), section 3: with constant parameters in log q every draw gives the encoder exactly 0."""
    m, v, w = X * 1.2 / (1.2**2 + SIGMA**2), math.log(SIGMA**2 / (1.2**2 + SIGMA**2)), 1.2
    found = gradients(loss, *BOUNDS[loss], f"loss.estimator={estimator}", point=(m, v, w))
    still = max(samples.abs().max().item() for samples in found[:2])
    assert (still < 1e-12) == (estimator != "standard")


@pytest.mark.parametrize("order", ["top_down", "bottom_up"])
@pytest.mark.parametrize("estimator", ["stl", "dreg"])
def test_two_layers_have_the_same_expected_gradient(order: str, estimator: str) -> None:
    """The estimators agree on the mean gradient of every parameter of q in a hierarchical model."""
    samples = 1 if estimator == "stl" else 3
    means, errors = [], []
    for kind in ("standard", estimator):
        config, _ = composed("model=hierarchical", "model.latent_dims=[2,1]", "model.hidden=[3]", "loss=iwae",
                             f"model.order={order}", f"loss.samples={samples}", f"loss.estimator={kind}",
                             "model.activation=tanh")  # fmt: skip
        torch.manual_seed(0)
        model, loss = parts(config, (1, 2, 2))
        x = torch.tensor([1.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2).expand(400, 1, 2, 2)
        chosen = [*model.infer.parameters(), *model.infer1.parameters()]
        drawn = []
        for _ in range(20):
            value, _ = loss(model, x, none(len(x)))
            drawn.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, chosen)]))
        means.append(torch.stack(drawn).mean(0))
        errors.append(torch.stack(drawn).std(0) / math.sqrt(len(drawn)))
    scale = (errors[0] ** 2 + errors[1] ** 2).sqrt()
    assert ((means[0] - means[1]).abs() < 6 * scale + 1e-9).all()
    assert means[0].abs().max() > 20 * scale.median()


@pytest.mark.parametrize(("order", "first"), [("top_down", 0), ("bottom_up", 1)])
def test_scaling_the_gradient_of_a_draw_leaves_that_of_the_next_layer(order: str, first: int) -> None:
    """What flows back from p is scaled; what comes through the rest of q has been scaled already."""
    config, _ = composed("model=hierarchical", "model.latent_dims=[2,2]", "model.hidden=[3]", f"model.order={order}")
    model, _ = parts(config, (1, 2, 2))
    trace = model(torch.ones(4, 1, 2, 2), none(4), 3)
    trace.latents[first].z.register_hook(lambda gradient: 0 * gradient)
    trace.latents[1 - first].z.sum().backward()
    encoder = (model.infer if first == 0 else model.infer1).encoder
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_a_linear_model_reaches_probabilistic_pca() -> None:
    """Tipping and Bishop (1999), eq. 8: the maximum of the likelihood in closed form."""
    n, d, q = 200, 4, 1
    x = torch.randn(n, q) @ torch.randn(q, d) + 0.4 * torch.randn(n, d) + 1
    values = torch.linalg.eigvalsh(x.T.cov(correction=0)).flip(0)
    noise = values[q:].mean()
    best = -0.5 * (d * math.log(2 * math.pi) + values[:q].log().sum() + (d - q) * noise.log() + d).item()
    config, _ = composed("model=linear", f"model.latent_dim={q}", "likelihood=normal", "likelihood.scale=learned",
                         "likelihood.sigma=1.0", "data.binarize=none", "loss.samples=2")  # fmt: skip
    model, loss = parts(config, (1, 1, d))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 700)
    for _ in range(700):
        optimizer.zero_grad()
        loss(model, x.view(n, 1, 1, d), none(n))[0].backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        elbo = -ELBO(samples=200)(model, x.view(n, 1, 1, d), none(n))[0].item()
    assert elbo == pytest.approx(best, abs=0.02)
    assert elbo < best + 2e-3
    assert model.likelihood.log_sigma.exp().item() == pytest.approx(noise.sqrt().item(), abs=0.02)


def test_importance_sampling_is_exact_for_discrete_latents() -> None:
    """Every one-hot z enumerated: log p(x) by hand, and the estimate from exact draws."""
    config, _ = composed("posterior=gumbel", "prior=categorical", "posterior.categories=3", "model.latent_dim=2",
                         "model.hidden=[5]")  # fmt: skip
    model, _ = parts(config, (1, 2, 2))
    x = torch.tensor([1.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2)
    rows = torch.eye(3)
    z = torch.stack([torch.stack(pair) for pair in itertools.product(rows, rows)])
    with torch.no_grad():
        exact = (model.decode(z).log_prob(x) - 2 * math.log(3)).logsumexp(0).item()
    assert model.log_prob(x, samples=20_000, chunk=5000).item() == pytest.approx(exact, abs=0.01)
