"""Images with their channels side by side, bfloat16 where it is fast: other layouts and roundings, the same run."""

from __future__ import annotations

import logging

import pytest
import torch
from conftest import Small, fit, options, ready, same, weights
from torch import Tensor, nn

from vae_lightning import bfloat16
from vae_lightning.model.layer import ConvTranspose, ImageDecoder, ImageEncoder, channels_last

CONV = [
    "model=conv",
    "model.channels=[4,8]",
    "model.strides=[1,2]",
    "pictures=false",
    "logger=none",
    "data.source.size=8",
]
WITH_IMAGES = sorted({"model=conv", "model=dcgan", "model=gated_conv", "model=resnet"} & set(options("model")))


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_lie_side_by_side(channels: int) -> None:
    x = torch.randn(5, channels, 6, 7)
    torch.testing.assert_close(channels_last(x), x, rtol=0, atol=0)
    assert channels_last(x).stride() == (42 * channels, 1, 7 * channels, channels)
    each = torch.func.vmap(channels_last)(x.expand(2, *x.shape))
    torch.testing.assert_close(each[1], x, rtol=0, atol=0)


@pytest.mark.parametrize("model", WITH_IMAGES)
def test_layout_reaches_every_convolution_and_changes_no_value(model: str) -> None:
    vae, loss, x, c = ready(model)
    vae, x, c = vae.float().train(), x[:6].float(), c[:6].float()
    torch.set_default_dtype(torch.float32)
    found: dict[bool, tuple[Tensor, list[Tensor]]] = {}
    seen: list[Tensor] = []
    convolutions = [m for m in vae.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    for module in convolutions:
        module.register_forward_hook(lambda _, __, out: seen.append(out))
    for layout in (False, True):
        for module in vae.modules():
            if isinstance(module, (ImageEncoder, ImageDecoder, ConvTranspose)):
                module.channels_last = layout
        torch.manual_seed(0)
        seen.clear()
        value, _ = loss(vae, x, c)
        vae.zero_grad()
        value.backward()
        found[layout] = value, [p.grad.clone() for p in vae.parameters() if p.grad is not None]
        assert len(seen) >= len(convolutions)
        assert all(out.is_contiguous(memory_format=torch.channels_last) for out in seen) or not layout
    torch.testing.assert_close(found[True][0], found[False][0])
    largest = max(gradient.abs().max().item() for gradient in found[False][1])
    for ours, plain in zip(found[True][1], found[False][1], strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_transposed_convolution_is_that_of_torch(dtype: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32 if dtype == torch.bfloat16 else dtype)
    ours = ConvTranspose(3, 4, 3, 2, 1, (1, 0))
    plain = nn.ConvTranspose2d(3, 4, 3, 2, 1, (1, 0))
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 5, 6)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        a, b = ours(x), plain(x)
    assert a.dtype == b.dtype == dtype
    near = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(a, b, **near)
    a.square().sum().backward()
    b.square().sum().backward()
    for (name, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, **near, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that has what bfloat16 needs."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


@pytest.mark.usefixtures("fast")
def test_bfloat16_is_near_float32_and_keeps_its_parameters(small: Small) -> None:
    torch.set_default_dtype(torch.float32)
    plain = fit(small(*CONV, "accelerator=cpu", "trainer.precision=32-true", folder="plain"))
    mixed = fit(small(*CONV, "accelerator=cpu_bf16", folder="mixed"))
    losses = [run.trainer.callback_metrics["val/loss"].item() for run in (plain, mixed)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert losses[0] != losses[1]
    assert {value.dtype for value in weights(mixed).values()} == {torch.float32}
    assert all(value.is_contiguous() for value in weights(mixed).values())


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("accelerator", ["cpu", "cpu_bf16"])
def test_layout_changes_a_run_by_rounding_and_none_of_its_laws(accelerator: str, small: Small) -> None:
    torch.set_default_dtype(torch.float32)
    how = [*CONV, f"accelerator={accelerator}", "data.batch_size=16"]
    one = fit(small(*how, "trainer.minibatches_per_step=1", folder="one"))
    many = fit(small(*how, folder="many"))
    assert same(weights(one), weights(many))
    half = fit(small(*how, "trainer.max_epochs=1", folder="half"))
    rest = small(*how, f"ckpt={half.best.dirpath}/last.ckpt", folder="half")
    rest.trainer.fit(rest.lit, rest.data, ckpt_path=rest.resumed, weights_only=True)
    assert same(weights(one), weights(rest))
    plain = fit(small(*how, "accelerator.channels_last=false", folder="plain"))
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(many)[name], value, rtol=0.05, atol=0.01)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["accelerator=cpu_bf16"], True),
        (["accelerator=cpu", "trainer.precision=32-true"], True),
        (["accelerator=cpu", "trainer.precision=32-true", "accelerator.channels_last=false"], False),
        (["accelerator=cpu", "trainer.precision=32-true", "model.activation=glu"], False),
        (["accelerator=cpu", "trainer.precision=32-true", "model.norm=group"], False),
        (["accelerator=cpu", "trainer.precision=64-true"], False),
        (["accelerator=cpu", "trainer.precision=64-true", "accelerator.channels_last=true"], True),
    ],
)
def test_who_decides_the_layout(said: list[str], expected: bool, small: Small) -> None:
    run = small(*CONV, *said)
    for callback in run.trainer.callbacks:
        callback.setup(run.trainer, run.lit, "fit")
    found = [m.channels_last for m in run.lit.modules() if isinstance(m, (ImageEncoder, ImageDecoder, ConvTranspose))]
    assert found == 4 * [expected]


@pytest.mark.parametrize("capabilities", [{}, {"avx512_f": True, "avx512_bf16": False}])
def test_a_processor_without_bfloat16_trains_in_float32_and_says_so(
    capabilities: dict[str, bool], small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with caplog.at_level(logging.WARNING, "vae_lightning"):
        run = small(*CONV, "accelerator=cpu_bf16")
    assert run.trainer.precision == "32-true"
    assert "avx512_bf16" in caplog.text
    assert "training in float32" in caplog.text


@pytest.mark.usefixtures("fast")
def test_bfloat16_needs_the_library_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bfloat16.why_slow() == ""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert "oneDNN" in bfloat16.why_slow()
