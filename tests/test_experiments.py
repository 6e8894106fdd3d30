"""Every experiment composes, trains and has the architecture that its header names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import options, same, weights
from torch import Tensor, nn

from vae_lightning.build import build_loss, build_model
from vae_lightning.command_line import check
from vae_lightning.compose import compose
from vae_lightning.data.vectors import Vectors
from vae_lightning.model.product import Linear
from vae_lightning.model.vae import VAE
from vae_lightning.paths import CONF
from vae_lightning.train import Run, prepare, train

EXPERIMENTS = [option.partition("=")[2] for option in options("experiment")]
QUICK = ["data.limit=24", "trainer.max_epochs=1", "trainer.enable_progress_bar=false", "accelerator=cpu"]
QUICK += ["trainer.precision=64-true"]
VARIANTS = [
    "mlp_leaky_2d model.residual=true",
    "mlp_leaky_2d loss.samples=4 loss.beta=0.5",
    "conv_2d posterior=point loss=ae",
    "dcgan_mixture posterior=normal",
    "tiny_softplus posterior=point loss=ae",
    "mlp_relu_20 likelihood=mse likelihood.output=sigmoid",
    "mlp_relu_20 likelihood=bernoulli data.binarize=dynamic",
    "mlp_relu_20 loss=tc",
    "mlp_relu_20 loss=factor",
    "mlp_relu_20 posterior=gumbel prior=categorical",
    "mlp_relu_20 posterior=laplace",
]


def stands_in(line: str) -> list[str]:
    """The overrides of `experiment=<line>`, with bundled data where it asks for images of 28x28."""
    name, *words = line.split()
    config, _ = compose([f"experiment={name}", *words])
    digits = config.data.source._target_.endswith("Idx")
    return [f"experiment={name}", *words, *(["data=digits"] if digits else [])]


@pytest.fixture
def built(tmp_path: Path) -> Callable[[str], Run]:
    """The parts of `experiment=<line>`, not trained."""

    def make(line: str) -> Run:
        config, choices = compose([*stands_in(line), *QUICK, "logger=none"])
        return prepare(config, choices, tmp_path)

    return make


@pytest.mark.parametrize("line", EXPERIMENTS)
def test_an_experiment_trains_and_leaves_results_and_pictures(line: str, tmp_path: Path) -> None:
    config, choices = compose([*stands_in(line), *QUICK, "logger=csv"])
    loss = train(config, choices, tmp_path)
    assert math.isfinite(loss)
    test = json.loads((tmp_path / "results.json").read_text())["test"]
    assert test["loss"] == pytest.approx(loss)
    assert ("elbo" in test) == (choices["likelihood"] in ("bernoulli", "normal"))
    pictures = {path.stem for path in (tmp_path / "figures").iterdir()}
    images = choices["data"] != "vectors"
    assert {"curves", "latents"} <= pictures
    assert ({"reconstructions", "samples"} <= pictures) == images
    assert ("manifold" in pictures) == (images and config.model.latent_dim == 2)


@pytest.mark.parametrize("line", VARIANTS)
def test_a_variant_trains(line: str, tmp_path: Path) -> None:
    assert check([f"experiment={line.split()[0]}", *line.split()[1:]]) == []
    config, choices = compose([*stands_in(line), *QUICK, "logger=none"])
    run = prepare(config, choices, tmp_path)
    before = weights(run)
    run.trainer.fit(run.lit, run.data)
    assert not same(before, weights(run))
    shown = run.trainer.callback_metrics
    assert math.isfinite(shown["val/loss"])
    assert ("val/rate" in shown) == (choices["posterior"] != "point")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_header_names_only_what_can_be_typed(name: str) -> None:
    """The lines of a header that are indented begin with overrides, alternatives separated by a comma and a space."""
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    for line in re.findall(r"^#   (\S.*)$", text, re.MULTILINE):
        for typed in line.split("  ")[0].split(", "):
            words = typed.split()
            multirun = words[0] == "-m"
            assert check([f"experiment={name}", *words[multirun:]], multirun=multirun) == [], line


def fitted(seed: int, overrides: list[str], steps: int, lr: float) -> VAE:
    """The model that `overrides` name after `steps` minibatches of the generated vectors."""
    config, _ = compose(overrides)
    x = Vectors().read(None).train[0].to(torch.get_default_dtype())
    torch.manual_seed(seed)
    model = build_model(config, shape=(1, 1, 10), n_context=0)
    loss, optimizer = build_loss(config), torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        chosen = torch.randint(len(x), (config.data.batch_size,))
        loss(model, x[chosen], torch.zeros(len(chosen), 0))[0].backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def measures(model: VAE, points: int = 33) -> dict[str, float]:
    """How far the decoder is from the straight lines and parallelograms that the generated vectors are made of.

    For test vectors a, b, c with encodings z and reconstructions r = decode(z):
    `bend`: the greatest distance of decode((1 - t) z_a + t z_b) from (1 - t) r_a + t r_b, relative to |r_a - r_b|;
    `arithmetic`: that of decode(z_a - z_b + z_c) from r_a - r_b + r_c, root mean square, relative to the spread of r;
    `truth`: that of the former from the noise-free a - b + c. A linear decoder has 0 in the first two, whatever it
    reconstructs. `error`: the root mean squared distance of r from the noise-free vector.
    """
    source = Vectors()
    x = source.read(None).test[0].to(torch.get_default_dtype())
    w, b = (t.to(x) for t in source._weights())
    clean = (x.flatten(1) - b) @ (w @ torch.linalg.pinv(w)).T + b
    z = model.encode(x).mode

    def decode(z: Tensor) -> Tensor:
        return model.decode(z.flatten(0, -2)).mean.view(*z.shape[:-1], -1)

    i, j, k, _ = torch.arange(len(x)).chunk(4)
    t = torch.linspace(0, 1, points)[:, None, None]
    path = decode((1 - t) * z[i] + t * z[j])
    chord = (path[-1] - path[0]).norm(dim=-1)
    far = chord > chord.median() / 2
    bend = (path - (1 - t) * path[0] - t * path[-1]).norm(dim=-1).amax(0) / chord
    r, answer = decode(z), decode(z[i] - z[j] + z[k])

    def relative(wanted: Tensor, spread: Tensor) -> float:
        centred = spread - spread.mean(0)
        return ((answer - wanted).square().sum() / len(answer) / (centred.square().sum() / len(spread))).sqrt().item()

    return {
        "bend": bend[far].mean().item(),
        "arithmetic": relative(r[i] - r[j] + r[k], r),
        "truth": relative(clean[i] - clean[j] + clean[k], clean),
        "error": (r - clean).square().sum(1).mean().sqrt().item(),
    }


def layers(module: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, kinds)]


def widths(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in layers(module, nn.Linear)]  # type: ignore[misc]


def sigma(run: Run, s: Tensor) -> Tensor:
    """The standard deviation where the scale head gives s."""
    d = run.lit.model.latent_shape[0]
    return run.lit.model.infer.posterior(torch.cat([torch.zeros(d), s.expand(d)])[None]).stddev


def test_mlp_leaky_2d(built: Callable[[str], Run]) -> None:
    run = built("mlp_leaky_2d")
    model, s = run.lit.model, torch.tensor(0.7)
    assert widths(model.infer.encoder) == [(784, 256), (256, 16), (16, 4)]
    assert widths(model.decoder) == [(2, 16), (16, 256), (256, 784)]
    for network in (model.infer.encoder, model.decoder):
        kinds = [type(m) for m in network.layers]
        assert kinds == [Linear, nn.LeakyReLU, Linear, nn.LeakyReLU, Linear]
        assert {m.negative_slope for m in layers(network, nn.LeakyReLU)} == {0.2}
    assert torch.allclose(sigma(run, s), (s / 2).exp())
    assert (run.lit.loss.beta, run.lit.loss.samples) == (1.0, 1)
    assert type(model.likelihood).__name__ == "Bernoulli"


def test_mlp_leaky_2d_with_a_residual_network_and_resampling(built: Callable[[str], Run]) -> None:
    run = built("mlp_leaky_2d model.residual=true loss.samples=4")
    blocks = [m for m in run.lit.model.modules() if type(m).__name__ == "Residual"]
    assert [widths(m.inner) for m in blocks] == [[(784, 256)], [(256, 16)], [(2, 16)], [(16, 256)]]
    assert run.lit.loss.samples == 4


@pytest.mark.parametrize("line", ["conv_2d", "conv_2d posterior=point loss=ae"])
def test_conv_2d(line: str, built: Callable[[str], Run]) -> None:
    run, (config, _) = built(line), compose(stands_in(line))
    model = run.lit.model
    convolutions, back = layers(model.infer, nn.Conv2d), layers(model.decoder, nn.ConvTranspose2d)
    assert [(m.out_channels, m.kernel_size, m.stride[0]) for m in convolutions] == [
        (32, (3, 3), 1), (64, (3, 3), 2), (64, (3, 3), 2), (64, (3, 3), 1)
    ]  # fmt: skip
    assert [(m.out_channels, m.stride[0]) for m in back] == [(64, 1), (64, 2), (32, 2), (1, 1)]
    assert widths(model.infer.encoder) == [(3136, 2 if "point" in line else 4)]
    assert widths(model.decoder) == [(2, 3136)]
    assert len(layers(model, nn.BatchNorm2d)) == 0
    picture = model.sample(3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert (config.seed, config.optimizer.lr, config.trainer.max_epochs) == (123, 5e-4, 20)
    if "point" not in line:
        s = torch.tensor(0.7)
        assert torch.allclose(sigma(run, s), (s / 2).exp())


def test_conv_2d_validates_on_a_fraction() -> None:
    config, _ = compose(["experiment=conv_2d"])
    assert (config.data.batch_size, config.data.val_size, config.data.source.name) == (32, 0.1, "MNIST")


def test_dcgan_mixture(built: Callable[[str], Run]) -> None:
    run = built("dcgan_mixture")
    model = run.lit.model
    assert run.data.shape == (1, 32, 32)
    convolutions, back = layers(model.infer, nn.Conv2d), layers(model.decoder, nn.ConvTranspose2d)
    assert [m.out_channels for m in convolutions] == [32, 64, 128, 256]
    assert [m.out_channels for m in back] == [128, 64, 32, 1]
    assert {(m.kernel_size, m.stride) for m in [*convolutions, *back]} == {((4, 4), (2, 2))}
    assert [m.bias is None for m in convolutions] == [True] * 4
    assert [m.bias is None for m in back] == [True, True, True, False]
    assert [m.num_features for m in layers(model.infer, nn.BatchNorm2d)] == [32, 64, 128, 256]
    assert [m.num_features for m in layers(model.decoder, nn.BatchNorm2d)] == [128, 64, 32]
    assert {m.negative_slope for m in layers(model, nn.LeakyReLU)} == {0.2}
    components, d = 4, model.latent_shape[0]
    assert model.infer.posterior.components == components
    assert widths(model.infer.encoder) == [(256 * 2 * 2, components * (2 * d + 1))]
    q = model.encode(torch.rand(3, 1, 32, 32).round())
    assert q.mixture_distribution.probs.shape == (3, components)
    assert q.component_distribution.variance.shape == (3, components, d)
    assert model.sample(2).shape == (2, 1, 32, 32)
    assert 0 <= model.sample(2).min() <= model.sample(2).max() <= 1


def test_a_linear_map_of_2x2_pixels_is_a_2x2_convolution_and_back(built: Callable[[str], Run]) -> None:
    model = built("dcgan_mixture").lit.model.eval()
    linear, into = model.infer.encoder.out.linear, model.decoder.into.linear
    convolution, back = nn.Conv2d(256, linear.out_features, 2), nn.ConvTranspose2d(into.in_features, 256, 2)
    small, z = torch.randn(3, 256, 2, 2), torch.randn(3, into.in_features)
    with torch.no_grad():
        convolution.weight.copy_(linear.weight.unflatten(1, (256, 2, 2)))
        convolution.bias.copy_(linear.bias)
        back.weight.copy_(into.weight.T.unflatten(1, (256, 2, 2)))
        back.bias.zero_()
        torch.testing.assert_close(convolution(small).flatten(1), linear(small.flatten(1)))
        image = back(z[..., None, None]) + into.bias.view(256, 2, 2)
        torch.testing.assert_close(image, into(z).view(3, 256, 2, 2))


@pytest.mark.parametrize("line", ["tiny_softplus", "tiny_softplus posterior=point loss=ae"])
def test_tiny_softplus(line: str, built: Callable[[str], Run]) -> None:
    run = built(line)
    model, plain = run.lit.model, "point" in line
    assert run.data.shape == (1, 1, 10)
    assert widths(model.infer.encoder) == [(10, 5), (5, 2 if plain else 4)]
    assert widths(model.decoder) == [(2, 5), (5, 10)]
    x = torch.randn(4, 1, 1, 10)
    p = model.decode(model.encode(x).mode)
    torch.testing.assert_close(p.log_prob(x), -(x - p.mean).square().sum((1, 2, 3)))
    if not plain:
        s = torch.tensor(0.7)
        torch.testing.assert_close(sigma(run, s), nn.functional.softplus(s).expand(1, 2))


def test_mlp_relu_20(built: Callable[[str], Run]) -> None:
    run = built("mlp_relu_20")
    model, s = run.lit.model, torch.tensor(0.7)
    assert widths(model.infer.encoder) == [(784, 200), (200, 40)]
    assert widths(model.decoder) == [(20, 200), (200, 784)]
    assert [type(m) for m in model.decoder.layers] == [Linear, nn.ReLU, Linear]
    torch.testing.assert_close(sigma(run, s), nn.functional.softplus(s).expand(1, 20))
    x = torch.rand(3, 1, 28, 28)
    logits = model.decoder(model.encode(x).mode, torch.zeros(3, 0))
    torch.testing.assert_close(model.reconstruct(x), logits.sigmoid().detach())
    assert run.data.binarize == "none"


def test_mlp_relu_20_by_squared_error(built: Callable[[str], Run]) -> None:
    model = built("mlp_relu_20 likelihood=mse likelihood.output=sigmoid").lit.model
    x = torch.rand(3, 1, 28, 28)
    p = model.decode(model.encode(x).mode)
    torch.testing.assert_close(p.log_prob(x), -(x - p.mean).square().sum((1, 2, 3)))
    assert 0 <= p.mean.min() <= p.mean.max() <= 1


def test_mlp_relu_20_with_categories(built: Callable[[str], Run]) -> None:
    model = built("mlp_relu_20 posterior=gumbel prior=categorical").lit.model
    assert widths(model.infer.encoder) == [(784, 200), (200, 20 * 10)]
    assert model.encode(torch.rand(3, 1, 28, 28)).mode.shape == (3, 20, 10)


def test_the_measures_of_interpolation_are_zero_for_straight_decoders_only() -> None:
    """tests/benchmark/test_interpolation.py has the comparison of VAE and autoencoder: it needs training to the end."""
    plane = fitted(0, ["data=vectors", "likelihood=mse", "model=linear", "model.latent_dim=2"], steps=20, lr=0.1)
    found = measures(plane)
    assert (found["bend"], found["arithmetic"]) == pytest.approx((0, 0), abs=1e-12)
    assert found["truth"] > 0.01
    bent = measures(fitted(2, ["experiment=tiny_softplus", "model.activation=tanh"], steps=20, lr=0.1))
    assert min(bent["bend"], bent["arithmetic"]) > 0.01
