"""Every density sums or integrates to one, every closed form equals Monte Carlo, every draw has the right moments."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import COMPANIONS, composed, names, parts, target
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vae_lightning.build import make
from vae_lightning.distribution.flow import Planar, Pushforward
from vae_lightning.distribution.sphere import UniformSphere, VonMisesFisher, log_area
from vae_lightning.model.vae import VAE
from vae_lightning.prior.codes import Autoregressive
from vae_lightning.trace import draw

VARIANTS = {  # of options whose formulas depend on a knob
    "posterior=flow": [[f"posterior.kind={kind}"] for kind in ("planar", "radial", "iaf", "nsf")],
    "prior=flow": [[f"prior.kind={kind}"] for kind in ("maf", "realnvp", "nsf")],
    "posterior=normal": [[f"posterior.scale={scale}"] for scale in ("log_variance", "exp", "softplus")],
    "likelihood=normal": [[f"likelihood.scale={scale}"] for scale in ("fixed", "learned", "pixel")],
    "likelihood=logistic": [[f"likelihood.scale={scale}"] for scale in ("learned", "pixel")],
}


def variants(group: str) -> list[tuple[str, ...]]:
    """Every option of a group, with each of its variants."""
    return [
        (option, *more)
        for option in (f"{group}={name}" for name in names(group))
        for more in VARIANTS.get(option, [[]])
    ]


def small_model(*overrides: str, latent_dim: int = 2) -> VAE:
    """A model of small dense networks, at least `latent_dim` numbers wide in between, and its companions."""
    option = overrides[0]
    dim = ["model=mlp", "model.hidden=[6]", f"model.latent_dim={latent_dim}"]
    config, _ = composed(*COMPANIONS.get(option, []), *overrides, *dim)
    torch.manual_seed(3)
    model, _ = parts(config, (1, 4, 4))
    with torch.no_grad():
        for parameter in model.parameters():  # away from where everything is symmetric
            parameter.add_(0.1 * torch.randn_like(parameter))
        for inputs in (p for name, p in model.prior.named_parameters() if name == "inputs"):
            inputs.uniform_()  # pseudo-inputs that differ
    return model.eval()


def posterior_of(*overrides: str) -> Distribution:
    """q(z | x) for three images."""
    model = small_model(*overrides)
    return model.infer(torch.rand(3, 1, 4, 4).round(), torch.zeros(3, model.n_context))


def prior_of(*overrides: str) -> Distribution:
    """p(z), for one context where there is one."""
    model = small_model(*overrides)
    return model.prior(torch.eye(10)[:1] if model.n_context else torch.zeros(1, 0))


def plane(q: Distribution, reach: float = 9.0, n: int = 161) -> tuple[Tensor, Tensor]:
    """Points of a grid (n n, 2) and what each stands for, around the mean of some draws."""
    z = draw(q, 4000)[0].detach()
    center, width = z.mean(0), z.std(0)
    line = torch.linspace(-reach, reach, n)
    grid = torch.cartesian_prod(line, line)
    points = center + grid.view(-1, *[1] * (z.dim() - 2), 2) * width
    return points, width.prod(-1) * (line[1] - line[0]) ** 2


def circle(n: int = 2000) -> tuple[Tensor, float]:
    angle = torch.arange(n) * (2 * math.pi / n)
    return torch.stack([angle.cos(), angle.sin()], -1), 2 * math.pi / n


REAL_POSTERIORS = [v for v in variants("posterior") if target(*v[0].split("=")).traits["density"]]


@pytest.mark.parametrize("variant", REAL_POSTERIORS, ids=" ".join)
def test_posteriors_integrate_to_one_and_draws_have_their_moments(variant: tuple[str, ...]) -> None:
    q = posterior_of(*variant)
    if isinstance(q, VonMisesFisher):
        points, area = circle()
        points = points.unsqueeze(1)
    else:
        points, area = plane(q)
    with torch.no_grad():
        mass = q.log_prob(points.expand(-1, 3, -1)).exp() * area
        torch.testing.assert_close(mass.sum(0), torch.ones(3), atol=5e-3, rtol=0)
        mean = (mass.unsqueeze(-1) * points).sum(0)
        second = torch.einsum("nb,nbi,nbj->bij", mass, points.expand(-1, 3, -1), points.expand(-1, 3, -1))
        z, log_share = draw(q, 20_000)
        share = (torch.zeros(z.shape[:2]) if log_share is None else log_share).exp().unsqueeze(-1)
        error = (share * z).std(0) / math.sqrt(len(z))
        assert (((share * z).mean(0) - mean).abs() < 5 * error + 4e-3).all()
        products = share.unsqueeze(-1) * z.unsqueeze(-1) * z.unsqueeze(-2)
        error = products.std(0) / math.sqrt(len(z))
        assert ((products.mean(0) - second).abs() < 5 * error + 2e-2).all()


PRIORS = [v for v in variants("prior") if target(*v[0].split("=")).traits["space"] in ("real", "any", "sphere")]


@pytest.mark.parametrize("variant", PRIORS, ids=" ".join)
def test_priors_integrate_to_one_and_draws_have_their_moments(variant: tuple[str, ...]) -> None:
    p = prior_of(*variant)
    sphere = isinstance(p, UniformSphere)
    z = p.sample((20_000,)).reshape(20_000, 2)
    if sphere:
        points, area = circle()
    else:
        line = torch.linspace(-9, 9, 161)
        points = z.mean(0) + torch.cartesian_prod(line, line) * z.std(0)
        area = z.std(0).prod() * (line[1] - line[0]) ** 2
    with torch.no_grad():
        mass = p.log_prob(points.unsqueeze(-2) if p.batch_shape else points).exp().flatten() * area
    assert mass.sum().item() == pytest.approx(1, abs=5e-3)
    mean, spread = mass @ points, (mass @ points.square() - (mass @ points).square()).sqrt()
    assert ((z.mean(0) - mean).abs() < 5 * spread / math.sqrt(len(z)) + 5e-3).all()
    assert (z.std(0) / spread - 1).abs().max() < 0.03


def test_discrete_priors_and_posteriors_sum_to_one() -> None:
    rows = torch.eye(4)
    words = torch.stack([torch.stack(pair) for pair in itertools.product(rows, rows)])  # (16, 2, 4)
    q = posterior_of("posterior=gumbel", "posterior.categories=4")
    torch.testing.assert_close(q.log_prob(words.unsqueeze(1)).logsumexp(0), torch.zeros(3))
    for learned in ("true", "false"):
        p = prior_of("prior=categorical", "posterior.categories=4", f"prior.learned={learned}")
        assert p.log_prob(words).logsumexp(0).item() == pytest.approx(0)
    index = torch.cartesian_prod(*[torch.arange(3)] * 4)
    model = Autoregressive(4, 3, hidden=5)
    assert model.log_prob(index).logsumexp(0).item() == pytest.approx(0)
    drawn = model.sample(20_000)
    found = (drawn * torch.tensor([27, 9, 3, 1])).sum(1).bincount(minlength=81) / 20_000
    p = model.log_prob(index).exp()
    assert ((found - p).abs() < 5 * (p / 20_000).sqrt()).all()


def test_draws_of_the_gumbel_softmax_have_the_probabilities_of_the_categories() -> None:
    q = posterior_of("posterior=gumbel", "posterior.categories=4", "posterior.straight_through=true")
    with torch.no_grad():
        frequencies = q.rsample((50_000,)).mean(0)
    error = (q.mean * (1 - q.mean) / 50_000).sqrt()
    assert ((frequencies - q.mean).abs() < 5 * error).all()
    soft = posterior_of("posterior=gumbel", "posterior.categories=4").rsample((7,))
    torch.testing.assert_close(soft.sum(-1), torch.ones(7, 3, 2))
    assert soft.max() < 1
    with pytest.raises(ValueError, match="a relaxed draw has no probability"):
        q.log_prob(q.rsample())


def pairs() -> list[tuple[str, ...]]:
    """Every posterior with every prior of its space."""
    found = []
    for posterior, prior in itertools.product(names("posterior"), names("prior")):
        spaces = target("posterior", posterior).traits["space"], target("prior", prior).traits["space"]
        if spaces[0] == spaces[1] or (spaces[1] == "any" and target("posterior", posterior).traits["density"]):
            found.append((posterior, prior))
    return found


@pytest.mark.parametrize(("posterior", "prior"), pairs())
def test_a_rate_in_closed_form_is_its_monte_carlo_estimate(posterior: str, prior: str) -> None:
    with_it = [o for o in COMPANIONS.get(f"prior={prior}", []) if "=" in o and not o.startswith("posterior=")]
    q = posterior_of(f"posterior={posterior}", f"prior={prior}", *with_it)
    p = small_model(f"posterior={posterior}", f"prior={prior}", *with_it).prior(torch.zeros(3, 10))
    try:
        closed = kl_divergence(q, p)
    except NotImplementedError:
        pytest.skip("no closed form")
    if posterior == "codebook":
        assert (closed > 0).all()  # minus the log-probability of the codes, which sum to one: see above
        return
    z = q.sample((20_000,))
    difference = q.log_prob(z) - p.log_prob(z)
    error = difference.std(0) / math.sqrt(len(z))
    assert ((difference.mean(0) - closed).abs() < 5 * error + 1e-9).all()


def test_which_rates_have_a_closed_form() -> None:
    """So that none is lost unnoticed."""
    closed = set()
    for posterior, prior in pairs():
        if prior in ("conditional", "vamp", "flow", "mixture"):
            continue
        model = small_model(
            f"posterior={posterior}", f"prior={prior}", *(["loss=vq"] if posterior == "codebook" else [])
        )
        try:
            kl_divergence(model.infer(torch.zeros(1, 1, 4, 4), torch.zeros(1, 0)), model.prior(torch.zeros(1, 0)))
        except NotImplementedError:
            continue
        closed.add((posterior, prior))
    assert closed >= {
        ("normal", "normal"), ("normal", "laplace"), ("laplace", "laplace"), ("laplace", "normal"),
        ("normal_full", "normal"), ("gumbel", "categorical"), ("joint", "joint"), ("codebook", "codes"),
        ("von_mises_fisher", "uniform_sphere"),
    }  # fmt: skip


def domain(name: str) -> Tensor:
    """All values of a pixel, or a fine grid of them."""
    if name == "bernoulli":
        return torch.tensor([0.0, 1.0])
    if name in ("logistic", "categorical"):
        return torch.arange(256.0) / 255
    return torch.linspace(0, 1, 20_001) if name == "continuous_bernoulli" else torch.linspace(-8, 9, 400_001)


DENSITIES = [v for v in variants("likelihood") if target(*v[0].split("=")).traits["density"]]


@pytest.mark.parametrize("variant", DENSITIES, ids=" ".join)
def test_likelihoods_sum_or_integrate_to_one_around_their_mean(variant: tuple[str, ...]) -> None:
    config, _ = composed(*variant, *COMPANIONS.get(variant[0], []))
    head = make(config.likelihood, shape=(1, 1, 1))
    x = domain(variant[0].partition("=")[2])
    params = 0.4 * torch.randn(head.param_shape)
    p = head(params.expand(len(x), *head.param_shape))
    density = p.log_prob(x.view(-1, 1, 1, 1)).exp()
    weight = torch.ones_like(x) if len(x) <= 256 else torch.full_like(x, (x[1] - x[0]).item())
    if len(x) > 256:
        weight[[0, -1]] /= 2
    assert (density * weight).sum().item() == pytest.approx(1, abs=1e-5)
    mean = (density * weight * x).sum().item()
    clipped = 0.1 if "likelihood=logistic" in variant else 0.0  # the outermost bins take the tails
    assert p.mean[0].item() == pytest.approx(mean, abs=1e-5 + clipped)


@pytest.mark.parametrize("name", [n for n in names("likelihood") if not target("likelihood", n).traits["density"]])
def test_an_energy_is_least_at_the_image_and_no_likelihood(name: str) -> None:
    config, _ = composed(f"likelihood={name}", *COMPANIONS.get(f"likelihood={name}", []))
    head = make(config.likelihood, shape=(1, 20, 20))
    assert not head.density
    x = torch.rand(1, 20, 20) * 0.8 + 0.1
    at = torch.logit(x) if name in ("ms_ssim", "cross_entropy") else x
    best = head(at.unsqueeze(0)).log_prob(x)
    others = head(at + 0.3 * torch.randn(50, 1, 20, 20)).log_prob(x)
    assert (best > others).all()
    if name != "cross_entropy":
        assert best.item() == pytest.approx(0, abs=1e-2)


def test_the_logistic_is_the_difference_of_two_sigmoids() -> None:
    head = make(composed("likelihood=logistic", "data.binarize=none")[0].likelihood, shape=(1, 1, 1))
    x, location, scale = torch.arange(256.0) / 255, torch.tensor(0.3), torch.tensor(0.1)
    cdf = torch.cat([torch.zeros(1), ((x[:-1] + 0.5 / 255 - location) / scale).sigmoid(), torch.ones(1)])
    p = head((location - 0.5).expand(256, 1, 1, 1)).log_prob(x.view(-1, 1, 1, 1))
    torch.testing.assert_close(p, cdf.diff().log())


def test_the_optimal_variance_is_the_best_one_and_stays_for_the_test() -> None:
    """Rybkin et al. (2021), eq. 7: no other sigma gives the minibatch a higher likelihood."""
    config, _ = composed("likelihood=normal", "data.binarize=none", "likelihood.scale=optimal")
    head, x, mean = make(config.likelihood, shape=(1, 3, 3)), torch.rand(20, 1, 3, 3), torch.rand(20, 1, 3, 3)
    best = head(mean).log_prob(x).mean()
    for sigma in (x - mean).square().mean().sqrt() * torch.tensor([0.9, 0.99, 1.0, 1.01, 1.1]):
        other = torch.distributions.Normal(mean, sigma).log_prob(x).sum((1, 2, 3)).mean()
        assert best >= other - 1e-9
    for _ in range(2000):
        head(mean).log_prob(x)
    head.eval()
    assert head.variance.item() == pytest.approx((x - mean).square().mean().item(), rel=1e-3)
    density = head(torch.zeros(1, 3, 3)).log_prob(torch.zeros(1, 3, 3)).item()
    assert density == pytest.approx(-4.5 * math.log(2 * math.pi * head.variance.item()))


@pytest.mark.parametrize("kind", ["planar", "radial", "iaf", "nsf"])
def test_the_inverse_and_the_jacobian_of_a_flow_agree_with_autograd(kind: str) -> None:
    q = posterior_of("posterior=flow", f"posterior.kind={kind}", "posterior.transforms=3")
    assert isinstance(q, Pushforward)
    z = q.rsample((5,))
    remembered = q.log_prob(z)
    torch.testing.assert_close(q.log_prob(z.clone()), remembered, atol=1e-6, rtol=1e-6)
    noise = torch.randn(3, 2)
    pushed, log_det = q.transform.call_and_ladj(noise)
    torch.testing.assert_close(q.transform.inv(pushed), noise, atol=1e-6, rtol=1e-6)
    jacobian = torch.autograd.functional.jacobian(lambda e: q.transform(e).sum(0), noise).movedim(1, 0)
    torch.testing.assert_close(log_det, jacobian.det().abs().log(), atol=1e-6, rtol=1e-6)
    assert jacobian.sub(torch.eye(2)).abs().max() > 1e-3  # not the identity


@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("kappa", [0.5, 10.0, 400.0])
def test_von_mises_fisher_against_bessel_functions(d: int, kappa: float) -> None:
    """Davidson et al. (2018), eq. 3, and the gradient of draws against that of E (mu'z)^2."""
    from scipy.special import ive

    k = torch.tensor([kappa], requires_grad=True)
    mu = torch.nn.functional.normalize(torch.randn(1, d), dim=-1)
    q = VonMisesFisher(mu, k)
    exact = d / 2 * math.log(2 * math.pi) + math.log(ive(d / 2 - 1, kappa)) + kappa - (d / 2 - 1) * math.log(kappa)
    assert q.log_normaliser.item() == pytest.approx(exact, rel=1e-9)
    assert q.cosine().item() == pytest.approx(ive(d / 2, kappa) / ive(d / 2 - 1, kappa), rel=1e-9)
    assert kl_divergence(q, UniformSphere(mu[0])).item() == pytest.approx(
        kappa * q.cosine().item() - exact + log_area(d), rel=1e-9
    )
    many = VonMisesFisher(mu, k.expand(10_000).contiguous().requires_grad_(True))
    (each,) = torch.autograd.grad((many.rsample() * mu).sum(-1).sum(), many.kappa)
    (slope,) = torch.autograd.grad(q.cosine().sum(), k)
    assert abs(each.mean() - slope).item() < 5 * each.std().item() / 100


def test_draws_by_strata_give_the_expectation_of_plain_draws() -> None:
    model = small_model("posterior=mixture")
    x, c = torch.rand(3, 1, 4, 4).round(), torch.zeros(3, 0)
    with torch.no_grad():
        model.infer.encoder.layers[-1].bias.normal_()  # components that differ
        q = model.infer(x, c)
        plain = q.sample((40_000,))
        difference = q.log_prob(plain) - model.prior(c).log_prob(plain)
        trace = model(x, c, 10_000)
        found = trace.rate(analytic=False)
        assert q.mixture_distribution.probs.std() > 0.01
    assert ((found - difference.mean(0)).abs() < 6 * difference.std(0) / 200).all()


def test_a_planar_map_is_invertible_whatever_its_parameters() -> None:
    w = torch.randn(50, 2)
    flow = Planar(-1.5 * w / w.square().sum(-1, keepdim=True), w, torch.randn(50, 1))  # w u = -1.5, below -1
    noise = 3 * torch.randn(50, 2)
    pushed, log_det = flow.call_and_ladj(noise)
    torch.testing.assert_close(flow.inv(pushed), noise, atol=1e-5, rtol=1e-5)
    assert ((flow.u * w).sum(-1) > -1).all()
    assert log_det.isfinite().all()


def test_the_mode_of_a_mixture_is_its_heaviest_component() -> None:
    q = posterior_of("posterior=mixture")
    heaviest = q.mixture_distribution.probs.argmax(-1)
    torch.testing.assert_close(q.mode, q.component_distribution.mean[torch.arange(3), heaviest])
