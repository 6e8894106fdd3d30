"""What a trained model is worth: every number against one that is known exactly."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import COMPANIONS, CONF, composed, options, ready
from torch import Tensor
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from vae_lightning.annealing import anneal, sigmoidal
from vae_lightning.check import nodes, plain, problems, read
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.evaluate.evaluate import evaluate, formatted
from vae_lightning.importance import importance
from vae_lightning.likelihood.bernoulli import Bernoulli
from vae_lightning.metric.ais import AIS
from vae_lightning.metric.inference_gap import InferenceGap
from vae_lightning.metric.information import Information, active_units, mutual_information
from vae_lightning.metric.likelihood import Likelihood
from vae_lightning.metric.reconstruction import Reconstruction
from vae_lightning.metric.value import NotApplicable
from vae_lightning.trace import Trace
from vae_lightning.train import train
from vae_lightning.trained import Trained

QUIET = ["trainer.enable_progress_bar=false", "accelerator=cpu", "trainer.precision=64-true", "logger=none"]
LINEAR = ["data=vectors", "model=linear", "model.latent_dim=2", "likelihood=normal", "likelihood.sigma=0.5"]
LINEAR += ["data.source.dim=5", "data.source.n_train=2000", "data.source.n_test=200", "data.val_size=100"]
LINEAR += ["optimizer.lr=0.01", "trainer.max_epochs=4"]


def trained(folder: Path, *overrides: str) -> Path:
    torch.set_default_dtype(torch.float64)
    train(*compose([*QUIET, *overrides]), folder)
    return folder


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose p(x) is a known normal distribution."""
    return trained(tmp_path_factory.mktemp("linear"), *LINEAR)


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    small = ["data=digits", "data.source.size=8", "model.hidden=[32]", "model.latent_dim=8", "trainer.max_epochs=3"]
    return trained(folder, *small, "optimizer.lr=0.01")


def marginal(run: Trained) -> MultivariateNormal:
    """p(x) of a linear model, from what its decoder does to the origin and to the unit vectors."""
    p = run.model.decode(torch.cat([torch.zeros(1, 2), torch.eye(2)]))
    b, w = p.mean[0].flatten(), (p.mean[1:] - p.mean[0]).flatten(1).T
    variance = p.base_dist.stddev.flatten()[0] ** 2  # type: ignore[attr-defined]
    return MultivariateNormal(b, w @ w.T + variance * torch.eye(len(b)))


# ---- the linear-Gaussian model ----------------------------------------------------------------------------------
@torch.no_grad()
def test_the_nll_is_the_exact_one(linear: Path) -> None:
    run = Trained(linear)
    values = Likelihood(samples=2000, images=None)(run)
    x = run.first("test").x
    exact = -marginal(run).log_prob(x.flatten(1)).mean().item()
    nll = values["nll"]
    assert nll.standard_error is not None
    assert 0 < nll.standard_error < 0.02
    assert abs(nll.value - exact) < 3 * nll.standard_error
    assert values["gap"].value == pytest.approx(-nll.value - values["elbo"].value)
    assert values["elbo"].value == pytest.approx(-values["distortion"].value - values["rate"].value)
    assert values["gap"].value > 0
    assert values["bits_per_dim"].value == pytest.approx(nll.value / 5 / math.log(2))
    assert values["exact_nll"].value == pytest.approx(-run.data.test_log_prob)


def test_annealing_finds_it_too_and_its_bounds_bracket_it(linear: Path) -> None:
    run = Trained(linear)
    values = AIS(images=24, chains=32, temperatures=60, leapfrog=5, samples=2000)(run)
    with torch.no_grad():
        exact = -marginal(run).log_prob(run.first("test", 24).x.flatten(1)).mean().item()
    for name in ("ais_nll", "nll_of_these"):
        assert abs(values[name].value - exact) < 3 * values[name].standard_error, name  # type: ignore[operator]
    upper, lower = values["simulated_nll_upper"], values["simulated_nll_lower"]
    noise = 3 * math.hypot(upper.standard_error, lower.standard_error)  # type: ignore[arg-type]
    assert -noise < values["ais_gap"].value < 0.5
    assert values["ais_gap"].value == pytest.approx(upper.value - lower.value)


def test_bounds_of_annealing_lie_on_both_sides_and_close_in() -> None:
    """z ~ N(0, 1), x | z ~ N(z, 0.2^2)."""
    sigma, chains, n = 0.2, 64, 100
    z = torch.randn(n, 1)
    x = z + sigma * torch.randn(n, 1)
    exact = Normal(0, math.sqrt(1 + sigma**2)).log_prob(x[:, 0])

    def density(at: Tensor) -> tuple[Tensor, Tensor]:
        return Normal(0, 1).log_prob(at).sum(-1), Normal(at, sigma).log_prob(x).sum(-1)

    gaps = []
    for temperatures in (2, 20, 200):
        betas = sigmoidal(temperatures)
        found = anneal(density, torch.randn(chains, n, 1), betas, 5)
        forward = anneal(density, torch.randn(chains, n, 1), betas, 5, found.steps)
        back = anneal(density, z.expand(chains, n, 1), betas, 5, found.steps, backwards=True)
        low, high = ((w.mean(0) - exact).mean().item() for w in (forward.log_w, back.log_w))  # of single chains
        assert low < 0 < high
        gaps.append(high - low)
    assert gaps[2] < gaps[1] / 3 < gaps[0] / 9
    together = (forward.log_w.logsumexp(0) - math.log(chains) - exact).mean().item()
    assert together == pytest.approx(0, abs=0.02)
    assert 0.5 < forward.accepted.mean() < 0.9


def test_the_gap_comes_from_the_family_and_from_the_encoder(linear: Path) -> None:
    """The best independent q has the variances 1 / Lambda_ii, Lambda the precision of the exact posterior."""
    run = Trained(linear)
    values = InferenceGap(images=16, steps=200, draws=16, lr=0.05, samples=4000)(run)
    with torch.no_grad():
        p = run.model.decode(torch.cat([torch.zeros(1, 2), torch.eye(2)]))
        w = (p.mean[1:] - p.mean[0]).flatten(1).T
        precision = torch.eye(2) + w.T @ w / p.base_dist.stddev.flatten()[0] ** 2  # type: ignore[attr-defined]
        family = 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
        x, _, c = run.first("test", 16)
        elbo = run.model(x, c, 4000).log_weight().mean().item()
        gap = marginal(run).log_prob(x.flatten(1)).mean().item() - elbo
    assert values["approximation_gap"].value == pytest.approx(family, abs=0.02)
    assert values["amortisation_gap"].value == pytest.approx(gap - family, abs=0.03)


# ---- importance weights -----------------------------------------------------------------------------------------
class Table:
    """A model whose log-weights are the rows of a table, one after the other."""

    likelihood = Bernoulli((1, 1, 1))

    def __init__(self, log_w: Tensor) -> None:
        self.rows = iter(log_w)

    def __call__(self, x: Tensor, c: Tensor, samples: int) -> Trace:
        table = torch.stack([next(self.rows) for _ in range(samples)])

        class P:
            def log_prob(self, x: Tensor) -> Tensor:
                return table

        return Trace(x, P(), ())  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk", [1, 3, 7, None])
def test_portions_change_nothing(chunk: int | None) -> None:
    log_w = torch.randn(7, 4)
    found = importance(Table(log_w), torch.zeros(4, 1, 1, 1), torch.zeros(4, 0), 7, chunk)
    w = log_w.exp()
    torch.testing.assert_close(found.log_prob, w.mean(0).log())
    torch.testing.assert_close(found.ess, w.sum(0) ** 2 / (w**2).sum(0))
    torch.testing.assert_close(found.variance, w.var(0, correction=0) / 7 / w.mean(0) ** 2)
    torch.testing.assert_close(found.elbo, log_w.mean(0))
    torch.testing.assert_close(found.distortion, -log_w.mean(0))


def test_more_samples_give_a_lower_nll(digits_run: Path) -> None:
    run = Trained(digits_run)
    nll = [Likelihood(samples=s, images=300)(run)["nll"].value for s in (1, 4, 16, 64)]
    assert nll == sorted(nll, reverse=True)
    assert nll[0] - nll[-1] > 0.1


# ---- information ------------------------------------------------------------------------------------------------
def test_mutual_information_is_its_definition() -> None:
    """Three images with discrete posteriors: the sum over codes by hand."""
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    exact = (probs / 3 * (probs / probs.mean(0)).log()).sum().item()
    q = Categorical(probs)
    draws = torch.stack([mutual_information(q, q.sample()) for _ in range(4000)])
    assert draws.mean().item() == pytest.approx(exact, abs=0.02)
    same = Categorical(probs[:1].expand(3, 3))
    torch.testing.assert_close(mutual_information(same, same.sample()), torch.zeros(3))


def test_information_of_a_linear_model(linear: Path) -> None:
    """x is normal, so that the aggregate posterior is, and I(x; z) is known for many images."""
    run = Trained(linear)
    values = Information(images=None)(run)
    with torch.no_grad():
        x, _, c = run.first("test")
        q = run.model.encode(x, c)
        aggregate = q.mean.T.cov() + q.variance.mean(0).diag()
        exact = 0.5 * (aggregate.logdet() - q.variance.log().sum(1)).mean().item()
        rates = kl_divergence(q, run.model.prior(c)).mean().item()
    assert values["active_units"].value == 2
    assert values["mutual_information"].value == pytest.approx(exact, abs=0.2)
    assert sum(v.value for name, v in values.items() if name.startswith("rate_of")) == pytest.approx(rates)
    total = values["mutual_information"].value + values["aggregate_kl"].value
    assert total == pytest.approx(rates)


def test_active_units() -> None:
    mean = torch.stack([torch.linspace(-1, 1, 50), torch.full((50,), 3.0), 0.01 * torch.randn(50)], 1)
    assert active_units(mean, 0.01) == 1


def test_a_collapsed_posterior_is_told(linear: Path) -> None:
    run = Trained(linear)
    for parameter in run.model.infer.encoder.parameters():
        parameter.data.zero_()
    values = Information(images=50)(run)
    assert values["active_units"].value == 0
    assert "collapsed" in values["active_units"].note
    assert values["mutual_information"].value == pytest.approx(0)


# ---- the command ------------------------------------------------------------------------------------------------
METRICS = {
    "likelihood": {"_target_": "vae_lightning.metric.likelihood.Likelihood", "samples": 20, "images": 30},
    "information": {"_target_": "vae_lightning.metric.information.Information", "images": 30},
}


def test_findings_are_kept_and_do_not_depend_on_each_other(digits_run: Path, capsys: pytest.CaptureFixture) -> None:
    path = digits_run / "evaluate.json"
    path.unlink(missing_ok=True)
    (both,) = evaluate(str(digits_run), METRICS, seed=3)
    assert json.loads(path.read_text()) == both
    assert "nats per image" in capsys.readouterr().out
    path.unlink()
    evaluate(str(digits_run), {"information": METRICS["information"]}, seed=3)
    (again,) = evaluate(str(digits_run), {"likelihood": METRICS["likelihood"]}, seed=3)
    for name in METRICS:
        assert again["metrics"][name]["values"] == both["metrics"][name]["values"]
    assert again["metrics"]["likelihood"]["settings"] == {"samples": 20, "images": 30}
    (other,) = evaluate(str(digits_run), {"likelihood": METRICS["likelihood"]}, seed=4)
    assert other["metrics"]["likelihood"]["values"] != both["metrics"]["likelihood"]["values"]


def test_what_has_no_meaning_is_left_out_with_its_reason(linear: Path, tmp_path: Path) -> None:
    energy = trained(tmp_path / "energy", *LINEAR[:3], "likelihood=mse", *LINEAR[5:], "data.source.n_train=300")
    (found,) = evaluate(str(energy), METRICS)
    assert found["metrics"]["likelihood"]["skipped"] == "likelihood=mse, whose density is False"
    assert "values" in found["metrics"]["information"]
    with pytest.raises(NotApplicable, match="likelihood=mse"):
        AIS()(Trained(energy))


def test_all_jobs_of_a_sweep_are_judged(linear: Path, tmp_path: Path) -> None:
    for job in ("0", "1", "10", "2"):
        shutil.copytree(linear, tmp_path / job)
    found = evaluate(str(tmp_path), {"likelihood": METRICS["likelihood"]})
    assert len(found) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no checkpoint in it"):
        evaluate(str(tmp_path / "empty"), METRICS)


def test_a_damaged_file_is_named(digits_run: Path) -> None:
    (digits_run / "evaluate.json").write_text("{")
    with pytest.raises(UserError, match=r"evaluate\.json: damaged .* delete it"):
        evaluate(str(digits_run), METRICS)
    (digits_run / "evaluate.json").unlink()


def test_digits_that_mean_something() -> None:
    assert formatted({"value": 98.5123, "standard_error": 0.0312}) == "98.512 ± 0.031"
    assert formatted({"value": 1234.5, "standard_error": 120.0}) == "1234 ± 120"
    assert formatted({"value": 20}) == "20"


def test_the_training_images_are_seen_once_binarised(digits_run: Path) -> None:
    run = Trained(digits_run)
    assert run.first("train", 7).x.unique().tolist() == [0, 1]
    latents = run.latents("test", 40)
    x, _, c = run.first("test", 40)
    with torch.no_grad():
        torch.testing.assert_close(latents.mean, run.model.encode(x, c).mean)


def test_a_device_that_is_not_there_is_named(linear: Path) -> None:
    with pytest.raises(ConfigError, match="device=cuda:77: this machine has none"):
        Trained(linear, device="cuda:77")


@pytest.mark.parametrize("option", options("metric", "sampler"))
def test_every_metric_and_sampler_writes_down_its_knobs(option: str) -> None:
    group, name = option.split("=")
    command = {"metric": "evaluate", "sampler": "generate"}[group]
    config, choices = compose([f"{group}={name}", "run=x"], name=command)
    assert problems(config, choices) == {}
    for path, node in nodes(config):
        target = read(node["_target_"])
        assert set(target.parameters) - target.facts <= set(node), f"{path} leaves knobs unsaid"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_command_says_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert any(line.startswith("# ") and line.endswith(".") for line in lines[:2])


# ---- any variant ------------------------------------------------------------------------------------------------
class Untrained(Trained):
    """A model that no run has left, with digits."""

    def __init__(self, option: str) -> None:
        config, choices = composed(option, *COMPANIONS.get(option, []))
        self.model, _, x, c = ready(option)
        self.model.eval()
        self.config, self.choices, self.device = plain(config), choices, torch.device("cpu")
        y = c.argmax(1) if c.shape[1] else torch.arange(len(x)) % 10
        self.__dict__["data"] = SimpleNamespace(
            test=(x, y), train=(x, y), binarize="none", test_log_prob=None, shape=tuple(x.shape[1:])
        )


SMALL_METRICS = [
    Likelihood(samples=3, images=4),
    InferenceGap(images=2, steps=2, draws=2, samples=4),
    Information(images=8),
    Reconstruction(images=4),
    AIS(images=2, chains=2, temperatures=2, leapfrog=1, samples=3),
]


@pytest.mark.parametrize("option", options("model", "posterior", "prior", "likelihood"))
def test_any_variant_is_judged_or_the_reason_told(option: str) -> None:
    run, told = Untrained(option), list[str]()
    for metric in SMALL_METRICS:
        try:
            values = metric(run)
        except NotApplicable as reason:
            told.append(str(reason))
            continue

        assert all(math.isfinite(value.value) for value in values.values()), values
        assert {*metric.lower_is_better, *metric.higher_is_better} - {"ssim", "psnr"} <= values.keys()
    assert len(told) < len(SMALL_METRICS)
    assert all("=" in reason for reason in told)
