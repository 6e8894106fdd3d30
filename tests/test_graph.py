"""A recorded or compiled step is the step itself: the same weights, optimiser, averages and logged values."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import SMALL, fit, options, ready, same, weights
from lightning.pytorch.callbacks import Callback
from stand_in import StandIn
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning import step as steps
from vae_lightning.callback import accelerate
from vae_lightning.callback.accelerate import Accelerate, obstacle
from vae_lightning.card import OnCard
from vae_lightning.compiled import CompiledStep
from vae_lightning.data.loader import Minibatch
from vae_lightning.errors import NonFiniteError
from vae_lightning.graph import WARM_UP, GraphStep
from vae_lightning.lit import LitVAE
from vae_lightning.optimizer import FusedAdam
from vae_lightning.train import Run

ON = "accelerator.graph=true"
QUICK = ["debug=false", "pictures=false", "data.limit=56", "data.batch_size=16", "trainer.max_epochs=5", "logger=csv"]
QUICK += ["trainer.minibatches_per_step=2"]
GROUPS = ("model", "posterior", "prior", "likelihood", "loss")


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """With this, `accelerator.graph=true` records on the processor; the recorders that were made."""
    made: list[StandIn] = []

    def record(device: torch.device) -> StandIn:
        made.append(StandIn())
        return made[-1]

    def obstacle(trainer: Any) -> str | None:
        return None if any(getattr(c, "graph", False) for c in trainer.callbacks) else "was not asked for"

    monkeypatch.setattr(accelerate, "OnCard", record)
    monkeypatch.setattr(accelerate, "obstacle", obstacle)
    return made


def everything(run: Run) -> dict[str, Any]:
    """All that a run leaves: weights, what the optimiser and the callbacks remember, and the training curves."""
    optimizer = run.trainer.optimizers[0].state_dict()
    average = next((c._average_model for c in run.trainer.callbacks if hasattr(c, "_average_model")), None)
    return {
        "weights": weights(run),
        "average": {} if average is None else dict(average.state_dict()),
        "optimizer": {f"{i}.{k}": v for i, state in optimizer["state"].items() for k, v in state.items()},
        "groups": optimizer["param_groups"],
        "steps": run.trainer.global_step,
        "curves": (run.progress.folder / "metrics.csv").read_text(),
    }


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    tensors = ("weights", "average", "optimizer")
    return all(same(a[name], b[name]) for name in tensors) and all(a[n] == b[n] for n in a if n not in tensors)


FEATURES = [
    ["beta=warmup", "beta.epochs=4", "scheduler=cosine", "callback=ema", "data.binarize=dynamic", "optimizer=adamw"],
    ["trainer.accumulate_grad_batches=4", "trainer.gradient_clip_val=0.5", "beta=cyclical", "scheduler=step"],
    ["model.dropout=0.3", "model.norm=batch", "condition=label", "scheduler=plateau", "callback=ema"],
    ["loss=capacity", "loss.anneal.epochs=3", "trainer.accumulate_grad_batches=2", "callback=ema", "beta=constant"],
    ["posterior=gumbel", "prior=categorical", "posterior.anneal.end=0.1", "posterior.anneal.epochs=4"],
]


@pytest.mark.parametrize("features", FEATURES, ids=lambda features: features[0])
def test_a_recorded_run_is_the_run(
    features: list[str], small: Callable[..., Run], recorders: list[StandIn], caplog: pytest.LogCaptureFixture
) -> None:
    features = [*SMALL, *QUICK, "trainer.log_every_n_steps=3", *features]
    plain = fit(small(*features, folder="plain"))
    recorded = fit(small(*features, ON, folder="recorded"))
    # Two whole minibatches, and a whole one with the last of an epoch; or, where their gradients are added, all four.
    assert len(recorders[0].recordings) == (1 if "trainer.accumulate_grad_batches=4" in features else 2)
    assert equal(everything(plain), everything(recorded))
    assert "going on without" not in caplog.text


def test_a_recorded_run_goes_on_where_it_stopped(small: Callable[..., Run], recorders: list[StandIn]) -> None:
    features = [*SMALL, *QUICK, ON, "callback=ema", "beta=warmup", "beta.epochs=8", "data.binarize=dynamic"]
    whole = fit(small(*features, "trainer.max_epochs=8", folder="whole"))
    first = fit(small(*features, "trainer.max_epochs=4", folder="first"))
    last = first.progress.folder / "checkpoints" / "last.ckpt"
    rest = small(*features, "trainer.max_epochs=8", f"ckpt={last}", folder="first")
    rest.trainer.fit(rest.lit, rest.data, ckpt_path=rest.resumed, weights_only=True)
    assert len(recorders) == 3
    assert all(recorder.recordings for recorder in recorders)
    assert same(weights(whole), weights(rest))


class Small(nn.Module):
    """What a `Step` knows of a training module, without a Trainer."""

    values, context, end, schedule = LitVAE.values, LitVAE.context, LitVAE.end, LitVAE.schedule

    def __init__(self, option: str) -> None:
        super().__init__()
        self.model, self.loss, self.x, c = ready(option)
        self.y = c.argmax(1) if c.shape[1] else torch.zeros(len(c), dtype=torch.long)
        self.trained = [p for p in self.parameters() if p.requires_grad]
        self.seed, self.global_rank, self.global_step, self.device = 0, 0, 1, torch.device("cpu")
        self.annealed, self.rows = dict[str, float](), list[Tensor]()
        self.sgd = torch.optim.Adam(self.trained, fused=True)
        self.optimizer = SimpleNamespace(
            optimizer=self.sgd, step=self.sgd.step, _on_before_step=lambda: None, _on_after_step=lambda: None
        )

    def manual_backward(self, loss: Tensor) -> None:
        loss.backward()

    def refuse_non_finite(self, values: dict[str, Tensor]) -> None:
        assert values["loss"].isfinite()

    def refuse_gradient(self, values: dict[str, Tensor]) -> None:
        assert all(p.grad is None or p.grad.isfinite().all() for p in self.trained)

    def begin(self, batch: Minibatch) -> None:
        """Nothing changes with time."""

    def _schedule(self, interval: str) -> None:
        """Nor does the learning rate."""

    def tell(self, wait: bool = True) -> None:
        """There is nothing to tell."""

    def point(self, batch: Minibatch) -> None:
        """There are no curves."""

    def add(self, names: list[str], values: Tensor, batch: Minibatch, point: None) -> None:
        self.rows.append(values)

    def steps(self, step: steps.Step, n: int) -> Tensor:
        """The values of `n` steps, two at a time."""
        for first in range(0, n, 2):
            numbers = range(first, first + 2)
            rows = [torch.arange(6 * i, 6 * i + 6) % len(self.x) for i in numbers]
            chunk = [
                Minibatch(self.x[r], self.y[r], i, i / 9, 6, 1.0, True, 6) for i, r in zip(numbers, rows, strict=True)
            ]
            step.chunk(self, chunk, self.optimizer)
        return torch.stack(self.rows)


@pytest.mark.parametrize("option", [o for o in options(*GROUPS) if o != "likelihood=ms_ssim"])
def test_every_option_can_be_recorded(option: str) -> None:
    n = WARM_UP + 5
    Distribution.set_default_validate_args(False)
    one, other, recorder = Small(option), Small(option), StandIn()
    first, second = one.steps(steps.Step(), n), other.steps(GraphStep(recorder, steps.Step()), n)
    assert len(recorder.recordings) == 1
    assert torch.equal(first, second)
    assert same(one.state_dict(), other.state_dict())


def test_a_recording_sees_tensors_change_and_nothing_else() -> None:
    """So that the laws above can fail: Python's numbers, and what follows from them, are recorded as they were."""
    x, number, weight = torch.ones(2), [1.0], torch.zeros(2)
    y, run = StandIn().record(lambda: weight.add_(x * number[0]) * 2)
    assert y.isnan().all()
    assert not weight.any()
    number[0] = 100.0
    x.fill_(3.0)
    run()
    run()
    assert weight.tolist() == [6.0, 6.0]
    assert y.tolist() == [12.0, 12.0]


class Asks(nn.Module):
    """A loss that asks the device something."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss, self.beta = loss, loss.beta

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> Any:
        loss, terms = self.loss(model, x, c)
        return (loss if loss.item() > -1e9 else 2 * loss), terms


class Breaks(StandIn):
    """Fails in the midst of its second recording, when gradients were added and used."""

    def record(self, work: Callable[[], Any]) -> Any:
        def half() -> None:
            work()
            raise RuntimeError("operation not permitted when stream is capturing")

        return super().record(half if self.recordings else work)


@pytest.mark.parametrize("how", ["asks", "breaks"])
def test_what_cannot_be_recorded_says_so_and_goes_on(
    how: str,
    small: Callable[..., Run],
    recorders: list[StandIn],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = [*SMALL, *QUICK, "trainer.accumulate_grad_batches=2", "callback=ema", "model.norm=batch"]
    plain, recorded = small(*features, folder="plain"), small(*features, ON, folder="recorded")
    if how == "asks":
        recorded.lit.loss = Asks(recorded.lit.loss)
    else:
        monkeypatch.setattr(accelerate, "OnCard", lambda device: Breaks())
    caplog.set_level(logging.WARNING)
    assert equal(everything(fit(plain)), everything(fit(recorded)))
    why = {"asks": "the processor asks for a number", "breaks": "operation not permitted"}[how]
    said = [line for line in caplog.text.splitlines() if "going on without" in line]
    assert len(said) == 1
    assert why in said[0]


def steep(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same loss, with a gradient that has no finite norm where an image is brighter than white."""

    def loss(model: Any, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = forward(model, x, c)
        weight = model.decoder.layers[0].weight.sum()
        return loss + (weight - weight.detach()) * (x.amax() > 2) * 1e200, terms

    return loss


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_what_is_not_finite_reaches_no_weight(bad: str, small: Callable[..., Run], recorders: list[StandIn]) -> None:
    def spoilt(*more: str, folder: str) -> Run:
        run = small(*SMALL, *QUICK, "data.binarize=none", "likelihood=normal", *more, folder=folder)
        loader = run.data.train_dataloader()
        loader.images = loader.images.double() / 255
        loader.images[55] = torch.nan if bad == "loss" else 3.0
        if bad == "gradient":
            run.lit.loss.forward = steep(run.lit.loss.forward)
        seldom = torch.arange(56).roll(20)  # the image comes in the midst of the fourth epoch, and in none before
        loader._order = lambda: seldom if loader.epoch == 3 else torch.arange(56) % 55
        run.data.train_dataloader = lambda: loader
        return run

    plain, recorded = spoilt(folder="plain"), spoilt(ON, "trainer.log_every_n_steps=100", folder="recorded")
    for run in (plain, recorded):
        with pytest.raises(NonFiniteError, match=r"loss is nan|the gradient is not finite"):
            fit(run)
        saved = torch.load(run.progress.folder / "checkpoints" / "last.ckpt", weights_only=True)
        assert saved["epoch"] == 2
    assert recorders[0].recordings
    assert same(weights(plain), weights(recorded))


def test_without_a_gpu_nothing_is_recorded(small: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    run = fit(small(*SMALL, *QUICK, ON, "trainer.max_epochs=1"))
    assert type(run.lit.step) is steps.Step
    assert "accelerator.graph=true needs a CUDA GPU; going on without" in caplog.text


class Listens(Callback):
    def on_after_backward(self, *_: Any) -> None:
        """Called after every backward pass."""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"device": "cpu"}, "needs a CUDA GPU"),
        ({"world_size": 4}, "these are 4"),
        ({"scaler": object()}, "say accelerator=gpu_bf16"),
        ({"callbacks": [Callback(), Listens()]}, "does not go with Listens"),
        ({"debug": True}, "does not go with debug=true"),
    ],
)
def test_what_is_known_beforehand_is_said_beforehand(change: dict[str, Any], said: str | None) -> None:
    has = {"device": "cuda", "world_size": 1, "scaler": None, "callbacks": [Callback()], "debug": False} | change
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device(has["device"])),
        world_size=has["world_size"],
        precision_plugin=SimpleNamespace(scaler=has["scaler"]),
        callbacks=has["callbacks"],
        _detect_anomaly=has["debug"],
    )
    why = obstacle(trainer)
    assert why is None if said is None else said in str(why)


def test_who_trains_with_others_is_left_alone(small: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    class Other(steps.Step):
        """Trains several runs at once."""

    run = small(*SMALL, *QUICK, "trainer.max_epochs=1")
    run.lit.step = other = Other()
    Accelerate(graph=True, compile=True).on_fit_start(run.trainer, run.lit)
    assert run.lit.step is other
    assert "trains with others" in caplog.text
    assert not other.behind


def test_a_compiled_run_is_the_run(small: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = list[int]()

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(
        accelerate, "CompiledStep", lambda: CompiledStep(partial(torch.compile, dynamic=False, backend=backend))
    )
    features = [*SMALL, *QUICK, "beta=warmup", "beta.epochs=4", "callback=ema", "trainer.accumulate_grad_batches=2"]
    plain = fit(small(*features, folder="plain"))
    other = fit(small(*features, "accelerator.compile=true", folder="compiled"))
    assert len(compiled) == 2  # the two shapes of a minibatch; not one for each value of beta
    a, b = weights(plain), weights(other)
    assert a.keys() == b.keys()  # nothing is wrapped
    assert all(torch.allclose(a[name], b[name], rtol=1e-9) for name in a)


def test_what_cannot_be_compiled_says_so_and_goes_on(
    small: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(loss: Callable[..., Any]) -> Callable[..., Any]:
        """Breaks down in the backward pass, when buffers and some gradients have changed."""

        class Broken(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return x.clone()

            @staticmethod
            def backward(ctx: Any, *gradients: Tensor) -> Tensor:
                raise RuntimeError("no compiler found")

        def broken(lit: LitVAE, x: Tensor, y: Tensor) -> Any:
            value, terms = loss(lit, x, y)
            lit.trained[0].grad = torch.ones_like(lit.trained[0])
            return Broken.apply(value), terms

        return broken

    monkeypatch.setattr(accelerate, "CompiledStep", lambda: CompiledStep(fails))
    features = [*SMALL, *QUICK, "model.norm=batch", "trainer.accumulate_grad_batches=2"]
    plain = fit(small(*features, folder="plain"))
    other = fit(small(*features, "accelerator.compile=true", folder="compiled"))
    assert equal(everything(plain), everything(other))
    assert caplog.text.count("accelerator.compile=true: no compiler found; going on without") == 1


ON_GPU = [*QUICK, "accelerator=gpu", "data.binarize=dynamic"]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-4) for name in a)


@needs_gpu
@pytest.mark.parametrize("features", [["callback=ema", "beta=warmup"], ["optimizer=adamax"], ["model=conv"]])
def test_on_a_gpu_a_recorded_run_is_the_run(
    features: list[str], small: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    features = [*ON_GPU, *features]
    plain, recorded = fit(small(*features, folder="plain")), fit(small(*features, ON, folder="recorded"))
    assert "going on without" not in caplog.text
    assert close(weights(plain), weights(recorded))


@needs_gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("how", [[], [ON], [ON, "accelerator.compile=true"]], ids=["plain", "graph", "compiled"])
def test_on_a_gpu_minibatches_per_step_change_nothing(how: list[str], small: Callable[..., Run]) -> None:
    features = [*ON_GPU, *how, "beta=warmup", "model.dropout=0.1", "trainer.log_every_n_steps=3"]
    runs = [fit(small(*features, f"trainer.minibatches_per_step={n}", folder=f"{n}")) for n in (1, 2, 16)]
    few, some, many = map(weights, runs)
    assert close(few, many)
    assert close(some, many)
    if not how:
        assert same(few, many)
    first = {(run.progress.folder / "metrics.csv").read_text().splitlines()[0] for run in runs}
    assert len(first) == 1


@needs_gpu
def test_on_a_gpu_a_resumed_run_is_the_run(small: Callable[..., Run]) -> None:
    features = [*ON_GPU, "callback=ema", "trainer.minibatches_per_step=1"]
    whole = fit(small(*features, "trainer.max_epochs=6", folder="whole"))
    first = fit(small(*features, "trainer.max_epochs=3", folder="first"))
    last = first.progress.folder / "checkpoints" / "last.ckpt"
    rest = fit(small(*features, "trainer.max_epochs=6", f"ckpt={last}", folder="first"))
    assert same(weights(whole), weights(rest))


@needs_gpu
@pytest.mark.parametrize("decoupled", [False, True])
def test_on_a_gpu_adam_in_pieces_is_adam(decoupled: bool) -> None:
    found = []
    for make in (torch.optim.Adam, FusedAdam):
        torch.manual_seed(0)
        shapes = [(300, 500), (50, 3), (7,)]
        ps = [nn.Parameter(torch.randn(shape, device="cuda", dtype=torch.float32)) for shape in shapes]
        optimizer = make(ps, 1e-2, weight_decay=0.1, fused=True, decoupled_weight_decay=decoupled)
        for i in range(4):
            for p in ps:
                p.grad = torch.randn_like(p)
            optimizer.found_inf = torch.tensor(float(i == 2), device="cuda", dtype=torch.float32)
            optimizer.step()
        found.append(
            {f"{i}": p.detach() for i, p in enumerate(ps)}
            | {f"s{i}": optimizer.state[p]["step"] for i, p in enumerate(ps)}
        )
    assert same(*found)


@needs_gpu
def test_on_a_gpu_a_failed_recording_leaves_nothing_behind() -> None:
    device = torch.device("cuda", 0)
    recorder = OnCard(device)
    with pytest.raises(RuntimeError):
        recorder.record(lambda: torch.randn(3, device=device).sum().item())
    torch.cuda.manual_seed(0)
    first = torch.randn(3, device=device)
    values, run = recorder.record(lambda: torch.randn(3, device=device))
    torch.cuda.manual_seed(0)
    run()
    assert torch.equal(first, values)


def test_a_second_fit_is_recorded_anew(small: Callable[..., Run], recorders: list[StandIn]) -> None:
    """A recording writes into the optimiser of its own fit, and there is another."""
    found = []
    for more in ([], [ON]):
        run = small(*SMALL, *QUICK, *more, folder="recorded" if more else "plain")
        for epochs in (5, 10):
            run.trainer.fit_loop.max_epochs = epochs
            fit(run)
            assert type(run.lit.step) is steps.Step  # the memory of the recordings is free again
        found.append(everything(run))
    assert [bool(recorder.recordings) for recorder in recorders] == [True, True]
    assert equal(*found)
