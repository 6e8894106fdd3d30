"""No training step asks the device for anything: a question makes the processor wait, and cannot be recorded."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, combined, context, digits, names, options, parts, ready, same, weights
from lightning.pytorch.core.optimizer import LightningOptimizer
from stand_in import StandIn
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from vae_lightning.callback import accelerate
from vae_lightning.check import problems
from vae_lightning.data.loader import Minibatch
from vae_lightning.graph import GraphStep
from vae_lightning.lit import LitVAE
from vae_lightning.prior.mixture import Components
from vae_lightning.synchronisation import Waits
from vae_lightning.train import Run

VARIANTS = [
    ["loss=rae", "loss.regularizer=gradient_penalty"],
    ["loss=rae", "loss.regularizer=spectral_norm"],
    ["loss=iwae", "loss.estimator=stl"],
    ["loss=piwae", "loss.estimator=dreg"],
    ["loss=tc", "loss.weighting=weighted"],
    ["loss=dip", "loss.kind=ii"],
    ["loss=mmd", "loss.kernel=imq"],
    ["loss=elbo", "loss.free_bits=0.1"],
    ["loss=elbo", "loss.analytic=false"],
    ["posterior=flow", "posterior.kind=planar"],
    ["posterior=flow", "posterior.kind=radial"],
    ["posterior=flow", "posterior.kind=nsf"],
    ["prior=flow", "prior.kind=maf"],
    ["prior=flow", "prior.kind=nsf"],
    ["prior=flow", "condition=label"],
    ["prior=categorical", "prior.learned=true"],
    ["prior=codes", "prior.kind=uniform"],
    ["posterior=gumbel", "posterior.straight_through=true"],
    ["posterior=codebook", "posterior.ema=0"],
    ["posterior=codebook", "posterior.levels=2"],
    ["likelihood=normal", "likelihood.scale=optimal"],
    ["likelihood=normal", "likelihood.scale=pixel"],
    ["likelihood=logistic", "likelihood.scale=pixel"],
    ["model=hierarchical", "model.order=bottom_up"],
    ["model=conv", "model.norm=batch"],
    ["model=mlp", *SMALL, "model.dropout=0.2", "model.norm=batch", "condition=label"],
]
GROUPS = ("model", "posterior", "prior", "likelihood", "loss")
KNOWN = {"likelihood=ms_ssim": "a tensor is made from the processor's numbers"}  # torchmetrics makes one each time


def found(model: nn.Module, loss: nn.Module, x: Tensor, c: Tensor) -> list[str]:
    """What makes the processor wait in a second step; a first may make what is kept from then on."""
    Distribution.set_default_validate_args(False)
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], fused=True)
    waits = Waits()
    for mode in (contextlib.nullcontext(), waits):
        with mode:
            value, terms = loss(model, x, c)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            torch.stack([term.detach() for term in terms.values()])
    return waits.found


@pytest.mark.parametrize("option", [[o] for o in options(*GROUPS)] + VARIANTS, ids=" ".join)
def test_a_step_never_waits_for_the_device(option: list[str]) -> None:
    model, loss, x, c = ready(*option)
    why = found(model, loss, x[:6], c[:6])
    known = KNOWN.get(option[0])
    assert len(why) == 1 and known in why[0] if known else not why


def test_nor_in_combinations() -> None:
    """Draws of a prior, its densities and its rates meet every posterior and every loss."""
    x, y = digits(6, 8)
    pairs = [{"posterior": q, "prior": p, "loss": "elbo"} for q in names("posterior") for p in names("prior")]
    pairs += [{"posterior": q, "loss": loss} for q in ("normal", "mixture", "flow", "point") for loss in names("loss")]
    pairs += [{"prior": p, "loss": loss} for p in ("mixture", "vamp", "flow") for loss in names("loss")]
    pairs += [{"posterior": "von_mises_fisher", "prior": "uniform_sphere", "loss": loss} for loss in names("loss")]
    ran = 0
    for chosen in pairs:
        config, choices = combined(SMALL, **chosen)
        if "pseudo_inputs" in config.prior:
            config.prior.pseudo_inputs = 3
        if problems(config, choices):
            continue
        model, loss = parts(config)
        assert not found(model, loss, x, context(config, y[:6])), chosen
        ran += 1
    assert ran > 60


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda x: x.sum().item(), "asks for a number"),
        (lambda x: 0 if x.any() else 1, "asks for a number"),
        (lambda x: x[x > 0], "a mask chooses"),
        (lambda x: x.masked_select(x > 0), "depends on its values"),
        (lambda x: x.nonzero(), "depends on its values"),
        (lambda x: x.unique(), "depends on its values"),
        (lambda x: x + torch.tensor(1.0), "from the processor's numbers"),
        (lambda x: x.new_tensor([1.0, 2.0]), "from the processor's numbers"),
        (lambda x: x.softmax(0).multinomial(1), "are probabilities"),
        (lambda x: torch.normal(x, x), "standard deviations are positive"),
        (lambda x: x.index_put_((x > 0,), torch.ones(3)), "a mask chooses"),
        (lambda x: x.repeat_interleave(torch.arange(3), 0), "depends on its values"),
    ],
)
def test_what_waits_is_found(ask: Callable[[Tensor], object], why: str) -> None:
    with Waits() as waits:
        ask(torch.eye(3))
    assert any(why in text for text in waits.found)
    with pytest.raises(RuntimeError, match=why), Waits(refuse=True):
        ask(torch.eye(3))


def test_what_does_not_wait_is_not() -> None:
    x = torch.randn(3, 3)
    with Waits(refuse=True):
        torch.where(x > 0, 0.0, x).masked_fill(x < 0, 1.0).gather(0, torch.zeros(1, 3, dtype=torch.long))
        x[..., 0].fill_(1.0)
        x[torch.arange(2), torch.arange(2)].argsort()


def test_draws_of_a_mixture_have_its_weights() -> None:
    """Chosen without `multinomial`, each component comes as often as it weighs."""
    weights, n = torch.tensor([0.1, 0.2, 0.7]), 20_000
    each = Independent(Normal(torch.tensor([[-100.0], [0.0], [100.0]]), torch.ones(3, 1)), 1)
    z = Components(Categorical(probs=weights), each).sample((n,))
    assert z.shape == (n, 1)
    shares = torch.stack([(z + 100 < 50).sum(), (z.abs() < 50).sum(), (z - 100 > -50).sum()]) / n
    assert ((shares - weights).abs() < 5 * (weights * (1 - weights) / n).sqrt()).all()
    assert torch.allclose(z[z.abs() < 50].std(), torch.ones(()), atol=0.1)


def test_on_a_gpu_a_whole_minibatch_asks_nothing(
    small: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With annealing, clipping, accumulation, scheduler, averages and metrics; and it is the step of a processor."""
    words = ["callback=ema", "trainer.gradient_clip_val=1", "scheduler=cosine", "beta=warmup", "condition=label"]
    words += ["trainer.accumulate_grad_batches=2", "debug=false", "logger=csv", "data.batch_size=16"]
    plain = small(*words, folder="plain")
    plain.trainer.fit(plain.lit, plain.data)
    monkeypatch.setattr(accelerate, "OnCard", lambda device: StandIn())
    monkeypatch.setattr(accelerate, "obstacle", lambda trainer: None)  # as if there were one
    run = small(*words, folder="as_on_a_gpu")
    found, call = list[str](), GraphStep.__call__

    def watched(self: GraphStep, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer) -> dict[str, Tensor]:
        with Waits() as waits:
            values = call(self, lit, batch, optimizer)
        found.extend(waits.found)
        return values

    monkeypatch.setattr(GraphStep, "__call__", watched)
    run.trainer.fit(run.lit, run.data)
    assert not found
    assert same(weights(plain), weights(run))
    assert (tmp_path / "plain" / "metrics.csv").read_text() == (tmp_path / "as_on_a_gpu" / "metrics.csv").read_text()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("option", options("posterior", "prior", "loss"))
def test_no_step_on_a_gpu_waits(option: str) -> None:
    Distribution.set_default_validate_args(False)
    model, loss, x, c = ready(option)
    model, loss, x, c = model.cuda(), loss.cuda(), x[:6].cuda(), c[:6].cuda()
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], fused=True)
    for mode in ("default", "error"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this is a prototype
            torch.cuda.set_sync_debug_mode(mode)
        try:
            loss(model, x, c)[0].backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
