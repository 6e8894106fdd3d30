"""Networks: every shape, every knob, every parameter."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from conftest import composed, names, options, target

from vae_lightning.build import build_model
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError
from vae_lightning.model.vae import VAE

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 64, 64), (1, 13, 9)]


def build(*overrides: str, shape: tuple[int, ...] = (1, 8, 8), n_context: int = 0) -> VAE:
    return build_model(compose(overrides)[0], shape=shape, n_context=n_context).double()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("model", options("model"))
def test_any_image_goes_in_and_comes_out(model: str, shape: tuple[int, ...]) -> None:
    if model == "model=dcgan" and min(shape[1:]) < 16:
        with pytest.raises(ConfigError, match=r"need images of at least 16x16 pixels.*data\.pad=16"):
            build(model, shape=shape)
        return
    vae = build(model, shape=shape)
    x = torch.rand(3, *shape).round()
    trace = vae(x, torch.zeros(3, 0), samples=2)
    assert trace.log_weight().shape == (2, 3)
    assert trace.latents[0].z.shape == (2, 3, *vae.latent_shape)
    assert vae.reconstruct(x).shape == x.shape
    assert vae.sample(4).shape == (4, *shape)


@pytest.mark.parametrize("least", [(1, 16, 16), (1, 15, 16)])
def test_the_least_size_in_the_message_is_the_least(least: tuple[int, ...]) -> None:
    if least == (1, 16, 16):
        build("model=dcgan", shape=least)
    else:
        with pytest.raises(ConfigError):
            build("model=dcgan", shape=least)


@pytest.mark.parametrize("condition", [0, 10])
@pytest.mark.parametrize("model", options("model"))
def test_every_parameter_gets_a_gradient_and_every_input_counts(model: str, condition: int) -> None:
    vae = build(model, shape=(1, 16, 16), n_context=condition).train()
    x = torch.rand(6, 1, 16, 16).round()
    c = torch.rand(6, condition, requires_grad=True)
    (-vae(x, c).log_weight().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vae.parameters())
    assert condition == 0 or (c.grad.abs().sum(1) > 0).all()


def knobs() -> list[list[str]]:
    """Every activation, and every norm, of every network that has some: no two options of one network."""
    found = []
    for name in {composed(f"model={name}")[0].model._target_: name for name in names("model")}.values():
        for knob in ("activation", "norm"):
            annotation = target("model", name).parameters.get(knob)
            found += [[f"model={name}", f"model.{knob}={value}"] for value in get_args(annotation)]
    return found


@pytest.mark.parametrize("how", knobs(), ids=" ".join)
def test_every_activation_and_norm(how: list[str]) -> None:
    vae = build(*how, shape=(1, 16, 16))
    assert vae(torch.rand(2, 1, 16, 16).round(), torch.zeros(2, 0)).log_weight().isfinite().all()


def test_the_default_sizes() -> None:
    mlp = build(shape=(1, 28, 28))
    sizes = [tuple(p.shape) for p in mlp.parameters() if p.dim() == 2]
    assert sizes == [(400, 784), (40, 400), (400, 20), (784, 400)]
    conv = build("model=conv", "model.latent_dim=2", shape=(1, 28, 28))
    assert conv.infer.encoder.out.linear.in_features == 3136
    channels = [m.out_channels for m in conv.modules() if isinstance(m, torch.nn.Conv2d)]
    mirrored = [m.out_channels for m in conv.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert (channels, mirrored) == ([32, 64, 64, 64], [64, 64, 32, 1])


def test_width_and_depth_are_knobs() -> None:
    assert build("model.hidden=[7,5]").infer.encoder.layers[2].out_features == 5
    assert len([m for m in build("model=resnet", "model.blocks=3").modules() if type(m).__name__ == "Block"]) == 18
    with pytest.raises(ConfigError, match="must be equally long"):
        build("model=conv", "model.channels=[8]")


def test_a_conditional_model_asks_for_its_context() -> None:
    vae = build(n_context=3)
    with pytest.raises(ValueError, match=r"conditional: give it a context of shape \(4, 3\)"):
        vae.sample(4)
    assert vae.sample(4, torch.eye(3)[[0, 1, 2, 0]]).shape == (4, 1, 8, 8)


@pytest.mark.usefixtures("no_noise")  # of the layers below z
@pytest.mark.parametrize("model", options("model"))
def test_samples_of_z_are_independent_rows(model: str) -> None:
    """S draws give the densities that each draw gives alone."""
    vae = build(model, shape=(1, 16, 16)).eval()
    z = torch.randn(3, 2, *vae.latent_shape)
    x = torch.rand(2, 1, 16, 16).round()
    together = vae.generate(z, torch.zeros(2, 0)).log_prob(x)
    alone = torch.stack([vae.decode(each).log_prob(x) for each in z])
    torch.testing.assert_close(together, alone)
