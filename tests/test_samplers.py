"""What is fitted to latents is the distribution that they come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal, Normal

from vae_lightning.build import build_model, make
from vae_lightning.checkpoint import describe
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError, NonFiniteError, UserError
from vae_lightning.sampler.codes import Codes
from vae_lightning.sampler.fit import Fit
from vae_lightning.sampler.flow import Flow
from vae_lightning.sampler.mixture import Mixture
from vae_lightning.sampler.prior import Prior
from vae_lightning.sampler.sampler import by_label
from vae_lightning.sampler.two_stage import SecondStage, TwoStage
from vae_lightning.trained import Trained

DIGITS = ["data=digits", "data.source.size=8", "data.binarize=threshold"]
RUNS = {
    "normal": ["model.hidden=[16]", "model.latent_dim=3"],
    "conditional": ["model.hidden=[16]", "model.latent_dim=3", "condition=label", "prior=conditional"],
    "sphere": ["model.hidden=[16]", "model.latent_dim=3", "posterior=von_mises_fisher", "prior=uniform_sphere"],
    "one_hot": ["model.hidden=[16]", "model.latent_dim=2", "posterior=gumbel", "prior=categorical"],
    "ladder": ["model=ladder", "model.latent_dims=[4,3]", "model.width=16"],
    "vectors": ["data=vectors", "model.hidden=[16]", "likelihood=normal", "data.binarize=none"],
    "energy": ["model.hidden=[16]", "data.binarize=none", "likelihood=mse"],
    "codes": [
        *("model.hidden=[16]", "posterior=codebook", "prior=codes", "loss=vq"),
        *("model.latent_dim=2", "posterior.codes=5", "posterior.grid=[2,2]", "posterior.levels=2"),
    ],
}


def write_run(folder: Path, name: str) -> Path:
    """The folder of a run whose weights are those that it would start with."""
    torch.manual_seed(1)
    pixels = [] if "data=vectors" in RUNS[name] else DIGITS
    config, choices = compose([*pixels, "data.limit=60", *RUNS[name]])
    data = make(config.data, seed=0, minibatches_per_step=1, accumulate_grad_batches=1)
    facts = {key: getattr(data, key) for key in ("shape", "n_train", "n_classes")}
    facts |= {"n_labelled": data.n_train, "n_context": 10 if config.condition == "label" else 0}
    weights = build_model(config, **facts).state_dict()
    checkpoint = {f"model.{key}": value for key, value in weights.items()}
    (folder / name / "checkpoints").mkdir(parents=True)
    record = {
        "state_dict": checkpoint,
        "vae_lightning": describe(config, choices, {**facts, "shape": list(data.shape)}),
    }
    torch.save(record, folder / name / "checkpoints" / "best.ckpt")
    return folder / name


@pytest.fixture(scope="module", name="run")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Models by name, whose weights were never trained."""
    folder = tmp_path_factory.mktemp("runs")
    return cache(lambda name: Trained(write_run(folder, name), device="cpu"))


def two_modes() -> MixtureSameFamily:
    """Three tenths around (-3, 10), the others around (3, 12), on scales that are far from one."""
    means = torch.tensor([[-3.0, 100.0], [3.0, 120.0]])
    factors = torch.tensor([[[0.5, 0.0], [5.0, 5.0]], [[1.0, 0.0], [0.0, 5.0]]])
    return MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7])), MultivariateNormal(means, scale_tril=factors))


FITS: dict[str, Callable[[Tensor], Distribution]] = {
    "mixture": lambda z: Mixture(components=2).fit(z),
    "flow": lambda z: Flow(Fit(epochs=20, lr=0.01), kind="nsf", transforms=2, hidden=[32, 32]).fit(z),
    "two_stage": lambda z: TwoStage(Fit(epochs=40, lr=0.01, patience=20), hidden=[64, 64]).fit(z),
}


@pytest.fixture(scope="module")
def fitted() -> Callable[[str], Distribution]:
    found: dict[str, Distribution] = {}

    def fit(name: str) -> Distribution:
        if name not in found:
            torch.manual_seed(0)
            found[name] = FITS[name](two_modes().sample((2500,)))
        return found[name]

    return fit


@pytest.mark.parametrize(("name", "tolerance"), [("mixture", 0.06), ("flow", 0.2), ("two_stage", 0.3)])
def test_samples_have_the_modes_and_moments_of_the_latents(
    name: str, tolerance: float, fitted: Callable[[str], Distribution]
) -> None:
    true, drawn = two_modes().sample((20_000,)), fitted(name).sample((20_000,))
    left, true_left = drawn[:, 0] < 0, true[:, 0] < 0
    scale = true.std(0)
    assert left.double().mean() == pytest.approx(0.3, abs=0.04)
    assert ((drawn[:, 0] - 0.2).abs() < 0.5).double().mean() < 0.05  # between the modes; one normal has 0.13
    torch.testing.assert_close(drawn.mean(0) / scale, true.mean(0) / scale, rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.T.corrcoef(), true.T.corrcoef(), rtol=0, atol=0.1)
    for mode, true_mode in ((left, true_left), (~left, ~true_left)):
        torch.testing.assert_close(drawn[mode].mean(0) / scale, true[true_mode].mean(0) / scale, rtol=0, atol=tolerance)
        torch.testing.assert_close(drawn[mode].std(0) / scale, true[true_mode].std(0) / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["mixture", "flow"])
def test_densities_come_close_to_the_entropy(name: str, fitted: Callable[[str], Distribution]) -> None:
    true = two_modes()
    z = true.sample((10_000,))
    kl = (true.log_prob(z) - fitted(name).log_prob(z)).mean()
    assert -0.01 < kl < 0.1


def test_the_density_of_a_flow_integrates_to_one(fitted: Callable[[str], Distribution]) -> None:
    x, y = torch.linspace(-9, 9, 200), torch.linspace(40, 180, 200)
    grid = torch.cartesian_prod(x, y)
    mass = fitted("flow").log_prob(grid).exp().sum() * (x[1] - x[0]) * (y[1] - y[0])
    assert mass == pytest.approx(1.0, abs=0.02)


def test_a_second_stage_draws_with_the_noise_of_its_likelihood() -> None:
    config, _ = compose(["model.latent_dim=2", "model.hidden=[8]", "likelihood=normal", "likelihood.sigma=3"])
    vae, mean, std = (
        build_model(config, shape=(1, 1, 2), n_context=0),
        torch.tensor([5.0, -1.0]),
        torch.tensor([2.0, 9]),
    )
    drawn, u = SecondStage(vae, mean, std).sample((40_000,)), torch.randn(40_000, 2)
    with torch.no_grad():
        v = vae.decode(u).mean.flatten(1)
    torch.testing.assert_close((drawn.mean(0) - mean) / std, v.mean(0), rtol=0, atol=0.06)
    torch.testing.assert_close(drawn.var(0) / std**2, v.var(0) + 9, rtol=0.03, atol=0)


def test_a_second_stage_uses_its_latents() -> None:
    torch.manual_seed(0)
    centres = 1.2 * torch.randn(6, 8)
    z = centres[torch.randint(6, (2000,))] + 0.7 * torch.randn(2000, 8)
    normal = MultivariateNormal(z.mean(0), z.T.cov()).sample((4000,))  # all that is left if u says nothing
    drawn = TwoStage(Fit(epochs=15, lr=0.005, patience=15), hidden=[64, 64]).fit(z).sample((4000,))
    near = [torch.cdist(some, centres).amin(1).mean() for some in (z, drawn, normal)]
    assert near[1] - near[0] < near[2] - near[1]


def test_a_fit_keeps_the_weights_that_explain_held_out_data_best() -> None:
    torch.manual_seed(0)
    weight, data, seen = nn.Linear(1, 1, bias=False), torch.ones(100, 1), []

    def nats(some: Tensor) -> Tensor:
        cost = (weight(some) - some).square().sum(1)
        if not torch.is_grad_enabled():
            seen.append((cost.mean().item(), weight.weight.item()))
        return cost

    Fit(epochs=50, lr=0.9, patience=4)(weight, nats, data, "a weight")  # steps that go too far, and back
    best = min(seen)
    assert weight.weight.item() == best[1]
    assert len(seen) == seen.index(best) + 1 + 4
    assert seen[-1][1] != best[1]


def test_a_fit_that_fails_says_so() -> None:
    with pytest.raises(NonFiniteError, match="the cost is not finite; say a smaller"):
        Fit(epochs=1)(nn.Linear(1, 1), lambda some: some.sum(1) * math.nan, torch.ones(20, 1).requires_grad_(), "x")
    with pytest.raises(ConfigError, match="9 latents are too few"):
        Fit()(nn.Linear(1, 1), lambda some: some.sum(1), torch.ones(9, 1), "a flow")
    with pytest.raises(ConfigError, match="components=10: there are 9 latents"):
        Mixture().fit(torch.randn(9, 2))


def test_codes_are_drawn_as_they_follow_one_another() -> None:
    first = torch.randint(7, (2000, 1))
    index = torch.cat([first, (3 * first + 1) % 7, (5 * first + 2) % 7, 6 - first], 1)
    model = Codes(Fit(epochs=20, lr=0.01), hidden=32).fit(index, codes=7)
    drawn = model.sample(1000)
    valid = (drawn[:, None] == index.unique(dim=0)).all(-1).any(1)
    assert valid.double().mean() > 0.99
    assert drawn[:, 0].bincount(minlength=7).tolist() == pytest.approx([1000 / 7] * 7, rel=0.35)


def test_codes_of_a_model_are_drawn_from_its_codebook(run: Callable[[str], Trained]) -> None:
    trained = run("codes")
    z = Codes(Fit(epochs=1), hidden=8)(trained, torch.zeros(6, 0))
    book = trained.model.infer.posterior.codes
    sums = (book[:, None] + book).flatten(0, 1)  # of two levels
    assert z.shape == (6, 2, 2, 2)
    assert torch.cdist(z.flatten(2).transpose(1, 2), sums).min(-1).values.max() < 1e-12


@pytest.mark.parametrize("name", ["normal", "sphere", "one_hot", "codes"])
def test_the_prior_is_the_models_own(name: str, run: Callable[[str], Trained]) -> None:
    trained = run(name)
    torch.manual_seed(3)
    z = Prior()(trained, torch.zeros(5, 0))
    torch.manual_seed(3)
    assert torch.equal(trained.model.decode(z).mean, trained.model.sample(5))


def test_the_prior_of_each_label(run: Callable[[str], Trained]) -> None:
    trained, c = run("conditional"), torch.eye(10)[[3] * 20_000]
    p = trained.model.prior(c[:1])
    z = Prior()(trained, c)
    torch.testing.assert_close(z.mean(0), p.mean[0].detach(), rtol=0, atol=0.05)


def test_what_is_fitted_is_a_draw_for_each_training_image(run: Callable[[str], Trained]) -> None:
    trained, seen = run("normal"), []

    class Watched(Mixture):
        def fit(self, z: Tensor) -> Distribution:
            seen.append(z)
            return super().fit(z)

    torch.manual_seed(5)
    assert Watched(components=2, images=40)(trained, torch.zeros(7, 0)).shape == (7, 3)
    torch.manual_seed(5)
    assert torch.equal(seen[0], trained.latents("train", 40).draw)


def test_each_label_has_a_fit_of_its_own(run: Callable[[str], Trained]) -> None:
    c = torch.eye(3)[[2, 0, 2, 0]]
    data, y = torch.tensor([0.0, 1.0, 2.0, 2.0, 0.0]), torch.tensor([0, 1, 2, 2, 0])
    drawn = by_label(c, data, y, lambda some: Normal(some.mean(), 1e-9))
    torch.testing.assert_close(drawn, torch.tensor([2.0, 0.0, 2.0, 0.0]), rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="label=1: no training image"):
        by_label(torch.eye(3)[[1]], data[y != 1], y[y != 1], lambda some: Normal(some.mean(), 1.0))


@pytest.mark.parametrize("sampler", [Mixture(components=2), Flow(Fit(epochs=1)), TwoStage(Fit(epochs=1), hidden=[8])])
def test_latents_on_a_sphere_stay_there(sampler: Any, run: Callable[[str], Trained]) -> None:
    z = sampler(run("sphere"), torch.zeros(5, 0))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    ("sampler", "name", "words"),
    [
        (Mixture(), "one_hot", "sampler=mixture is for vectors of numbers, and posterior=gumbel has none: .*prior"),
        (Flow(Fit()), "codes", "sampler=flow .* posterior=codebook has none: say sampler=codes"),
        (TwoStage(Fit()), "one_hot", "sampler=two_stage .*: say sampler=prior"),
        (Codes(Fit()), "normal", "sampler=codes is for posterior=codebook, and this is posterior=normal"),
    ],
)
def test_samplers_refuse_what_they_are_not_for(
    sampler: Any, name: str, words: str, run: Callable[[str], Trained]
) -> None:
    with pytest.raises(ConfigError, match=words):
        sampler(run(name), torch.zeros(5, 0))
