"""Ensembles: jobs that are trained together come to what each comes to alone, draw for draw."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from stand_in import StandIn
from torch import Tensor, nn
from torch.func import vmap

from vae_lightning import status, step
from vae_lightning.callback import accelerate
from vae_lightning.compose import compose
from vae_lightning.ensemble import meeting
from vae_lightning.ensemble.batched import Batched, linear
from vae_lightning.ensemble.draws import Draws, Stream
from vae_lightning.ensemble.launcher import kind
from vae_lightning.ensemble.meeting import Meeting
from vae_lightning.ensemble.step import Shared
from vae_lightning.ensemble.turns import Alone, Turns
from vae_lightning.errors import NonFiniteError
from vae_lightning.loss.elbo import ELBO
from vae_lightning.sweep import summary
from vae_lightning.train import train

SMALL = ["data=digits", "data.limit=96", "data.batch_size=16", "model.hidden=[16]", "model.latent_dim=4"]
SMALL += [
    "trainer.max_epochs=2",
    "logger=csv",
    "pictures=false",
    "trainer.log_every_n_steps=4",
    "trainer.enable_progress_bar=false",
]
CPU = ["accelerator=cpu"]
CONV = [o for o in SMALL if not o.startswith("model")]
Job = Callable[[], None]


def job(folder: Path, overrides: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    train(*compose([*SMALL[:3], *overrides]), folder)


def run_together(jobs: Sequence[Job]) -> dict[int, BaseException]:
    """Why jobs ended that did not come to their end."""
    turns, ends = Turns(Meeting()), dict[int, BaseException]()

    def run(number: int) -> None:
        step.make.set(partial(Shared, turns))
        try:
            jobs[number]()
        except BaseException as error:
            ends[number] = error

    turns.run({number: partial(run, number) for number in range(len(jobs))})
    return ends


def both(folder: Path, every: Sequence[Sequence[str]]) -> dict[int, BaseException]:
    """Runs all jobs alone, and together."""
    for i, overrides in enumerate(every):
        job(folder / f"alone{i}", overrides)
    return run_together([partial(job, folder / f"together{i}", o) for i, o in enumerate(every)])


def curves(folder: Path) -> Tensor:
    with (folder / "metrics.csv").open() as file:
        rows = [[float(row[name] or 0) for name in sorted(row)] for row in csv.DictReader(file)]
    return torch.tensor(rows)


def results(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "results.json").read_text())
    return {k: v for k, v in found.items() if k not in ("seconds", "images_per_second")}


def assert_same(folder: Path, i: int, near: float) -> None:
    """Curves, results, weights, and the state of the optimiser."""
    a, b = folder / f"alone{i}", folder / f"together{i}"
    torch.testing.assert_close(curves(b), curves(a), rtol=near, atol=near)
    one, other = results(a), results(b)
    assert other.pop("test") == pytest.approx(one.pop("test"), rel=near, abs=near)
    assert other.pop("val") == pytest.approx(one.pop("val"), rel=near, abs=near)
    assert one == other
    for name in ("best.ckpt", "last.ckpt"):
        paths = [path / "checkpoints" / name for path in (a, b)]
        x, y = (torch.load(path, weights_only=True) for path in paths)
        torch.testing.assert_close(y["state_dict"], x["state_dict"], rtol=near, atol=near)
        assert y["global_step"] == x["global_step"]
        moments = [list(c["optimizer_states"][0]["state"].values()) for c in (x, y)]
        torch.testing.assert_close(moments[1], moments[0], rtol=near, atol=near)
        assert abs(paths[0].stat().st_size - paths[1].stat().st_size) < 200  # of a tensor all its memory is saved


MANY = [*SMALL, *CPU, "trainer.precision=64-true"]
GREY = ["likelihood=normal", "data.binarize=none"]
LAWS: dict[str, tuple[list[str], list[list[str]], float]] = {
    "numbers": (
        [*MANY, "beta=warmup", "scheduler=cosine", "callback=ema", "trainer.gradient_clip_val=1"],
        [["seed=1"], ["seed=2", "loss.beta=4", "beta.epochs=1"], ["seed=2", "optimizer.lr=0.01", "optimizer.eps=1e-6"]],
        1e-9,
    ),
    "noise": (
        [*MANY, "model.norm=batch", "trainer.accumulate_grad_batches=2", "posterior=mixture", "data.batch_size=20"],
        [["seed=1", "model.dropout=0.2"], ["seed=2", "model.dropout=0.5"], ["seed=1", "model.dropout=0.5"]],
        1e-6,
    ),
    "ends": (
        [*MANY, "callback=early_stopping", "callback.early_stopping.patience=1", *GREY],
        [
            ["optimizer.lr=0.5", "trainer.max_epochs=4"],
            ["data.limit=64"],
            ["trainer.max_epochs=3", "trainer.minibatches_per_step=2"],
        ],
        1e-9,
    ),
    "bfloat16": (
        [*CONV, "model=conv", "accelerator=cpu_bf16", "model.channels=[4,4,8,8]", "trainer.max_epochs=1"],
        [["seed=1"], ["seed=2"]],
        0.05,
    ),
    "float32": ([*SMALL, *CPU, "condition=label", "loss=iwae", "prior=vamp"], [["seed=1"], ["seed=2"]], 1e-3),
}


@pytest.mark.parametrize("law", LAWS)
def test_a_job_comes_to_what_it_comes_to_alone(law: str, tmp_path: Path) -> None:
    common, differ, near = LAWS[law]
    assert not both(tmp_path, [[*common, *own] for own in differ])
    for i in range(len(differ)):
        assert_same(tmp_path, i, near)
        assert "alone" not in status.read(tmp_path / f"together{i}")
    if law == "ends":
        assert len({results(tmp_path / f"together{i}")["epochs"] for i in range(3)}) > 1


RECORDED: dict[str, tuple[list[str], list[list[str]], bool]] = {
    "annealed": (["beta=warmup", "beta.epochs=5"], [["seed=1"], ["seed=2", "loss.beta=4", "beta.epochs=2"]], True),
    "noise": (
        ["model.norm=batch", "data.batch_size=20", "optimizer=adamw", "data.binarize=dynamic", "model.dropout=0.2"],
        [["seed=1"], ["seed=2", "loss.beta=2"], ["seed=3"]],
        True,
    ),
    "dropout": ([], [["model.dropout=0.2"], ["model.dropout=0.5"]], False),
    "accumulated": (["trainer.accumulate_grad_batches=2", "scheduler=step"], [["seed=1"], ["seed=2"]], True),
    "ends": (["callback=early_stopping"], [["seed=1", "trainer.max_epochs=6"], ["seed=2"], ["seed=3"]], True),
    "clipped": (["trainer.gradient_clip_val=1"], [["seed=1"], ["seed=2"]], False),
    "rates": ([], [["optimizer.lr=0.01"], ["optimizer.lr=0.001"]], False),
    "steps": (["scheduler=cosine"], [["seed=1"], ["seed=2"]], False),
    "averages": (["callback=ema"], [["seed=1"], ["seed=2"]], False),
}


@pytest.mark.parametrize("law", RECORDED)
def test_jobs_that_are_recorded_as_one_come_to_the_same(
    law: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    common, differ, recorded = RECORDED[law]
    made: list[StandIn] = []

    def recorder(device: torch.device) -> StandIn:
        made.append(StandIn())
        return made[-1]

    monkeypatch.setattr(meeting, "OnCard", recorder)
    monkeypatch.setattr(accelerate, "obstacle", lambda trainer: None)
    monkeypatch.setattr(accelerate, "OnCard", lambda device: StandIn())
    told = [*MANY, "trainer.minibatches_per_step=2", "trainer.max_epochs=5", "accelerator.graph=true", *common]
    assert not both(tmp_path, [[*told, *own] for own in differ])
    for i in range(len(differ)):
        assert_same(tmp_path, i, 1e-6)
    assert len(made) == 1
    assert bool(made[0].recordings) == recorded
    assert ("going on without" in caplog.text) == (not recorded)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("how", [[], ["accelerator.graph=true"]], ids=["plain", "graph"])
def test_on_a_gpu_a_job_comes_to_what_it_comes_to_alone(
    how: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = [*SMALL, "accelerator=gpu", "trainer.minibatches_per_step=2", "trainer.max_epochs=5", "beta=warmup", *how]
    assert not both(tmp_path, [[*common, "seed=1"], [*common, "seed=2", "loss.beta=4"]])
    for i in range(2):
        assert_same(tmp_path, i, 5e-3)
    assert "going on without" not in caplog.text


def test_a_job_that_diverges_does_not_touch_the_others(tmp_path: Path) -> None:
    job(tmp_path / "alone1", [*MANY, "seed=1"])
    with pytest.raises(NonFiniteError) as error:
        job(tmp_path / "alone0", [*MANY, "optimizer.lr=1e30"])
    told = [["optimizer.lr=1e30"], ["seed=1"], ["seed=2"]]
    ends = run_together([partial(job, tmp_path / f"together{i}", [*MANY, *own]) for i, own in enumerate(told)])
    assert {n: str(end) for n, end in ends.items()} == {0: str(error.value)}
    assert_same(tmp_path, 1, 1e-9)


REFUSED = {
    "no other job has networks of the same shapes": ([], [["model.latent_dim=2"], ["model.latent_dim=3"]]),
    "no other job has the same free_bits": ([], [["loss.free_bits=0.1"], ["loss.free_bits=0.2"]]),
    "debug=true looks at each operation": (["debug=true"], [["seed=1"], ["seed=2"]]),
    "RuntimeError: ": (["posterior=normal", "prior=flow"], [["seed=1"], ["seed=2"]]),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_job_that_cannot_be_batched_is_told_why(why: str, tmp_path: Path) -> None:
    common, differ = REFUSED[why]
    ends = run_together([partial(job, tmp_path / str(i), [*MANY, *common, *own]) for i, own in enumerate(differ)])
    assert all(isinstance(end, Alone) and str(end).startswith(why) for end in ends.values())
    assert len(ends) == len(differ)


def test_numbers_that_decide_what_is_computed_are_not_mixed(tmp_path: Path) -> None:
    """Sizes and bounds: those that have the same are together."""
    every = [[*MANY, f"seed={s}", f"loss.samples={n}", f"loss.beta={n}"] for s in (1, 2) for n in (1, 3)]
    assert not both(tmp_path, every)
    for i in range(len(every)):
        assert_same(tmp_path, i, 1e-9)
        assert "alone" not in status.read(tmp_path / f"together{i}")


def test_what_is_not_the_same_in_the_batch_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number where nobody looks for it."""
    forward = ELBO.forward

    def hidden(self: ELBO, *args: Any) -> Any:
        loss, terms = forward(self, *args)
        return loss * self.__dict__.setdefault("list", [1 + self.beta / 10])[0], terms

    monkeypatch.setattr(ELBO, "forward", hidden)
    told = [["loss.beta=1"], ["loss.beta=1", "seed=1"], ["loss.beta=4"]]
    ends = run_together([partial(job, tmp_path / str(i), [*MANY, *own]) for i, own in enumerate(told)])
    assert list(ends) == [2]
    assert re.match(r"loss [\d.]+ in the batch, [\d.]+ alone", str(ends[2]))


def test_what_fails_later_goes_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ELBO.forward

    def picky(self: ELBO, *args: Any) -> Any:
        loss, terms = forward(self, *args)
        assert self.beta == 0 or loss.item()
        return loss, terms

    monkeypatch.setattr(ELBO, "forward", picky)
    common = [*MANY, "beta=warmup", "beta.epochs=1"]
    assert not both(tmp_path, [[*common, "seed=1"], [*common, "seed=2"]])
    assert_same(tmp_path, 0, 1e-9)
    assert_same(tmp_path, 1, 1e-9)
    assert status.read(tmp_path / "together0")["alone"].startswith("RuntimeError: vmap")


DRAWN: dict[str, Callable[[Tensor], Tensor]] = {
    "randn": lambda x: torch.randn(3, 2) + x,
    "normal_": lambda x: torch.empty(3, 2).normal_() * x,
    "like": lambda x: torch.rand_like(x) + torch.randn_like(x),
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()),
    "multinomial": lambda x: torch.multinomial(x.softmax(-1), 5, True).double(),
    "dropout": lambda x: F.dropout(x, 0.3, True),
    "dropout2d": lambda x: F.dropout2d(x.view(1, 3, 2, 1), 0.5, True),
    "no dropout": lambda x: F.dropout(x, 0.3, False),
    "exponential_": lambda x: torch.empty_like(x).exponential_(),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_are_those_of_the_job_alone(name: str) -> None:
    xs, alone = torch.randn(4, 3, 2), []
    for seed, x in enumerate(xs):
        torch.manual_seed(seed)
        alone.append(torch.stack([DRAWN[name](x), DRAWN[name](x + 1)]))
    streams = [Stream(partial(torch.manual_seed, seed), torch.device("cpu")) for seed in range(4)]

    def one(x: Tensor, index: Tensor) -> Tensor:
        with Draws(streams, index):
            return torch.stack([DRAWN[name](x), DRAWN[name](x + 1)])

    assert torch.equal(vmap(one, randomness="error")(xs, torch.arange(4)), torch.stack(alone))


def test_draws_of_which_nobody_knows_whose_they_are_are_refused() -> None:
    def one(index: Tensor) -> Tensor:
        with Draws([Stream(partial(torch.manual_seed, 0), torch.device("cpu"))], index):
            return index + torch.rand(3, generator=torch.Generator())

    with pytest.raises(RuntimeError, match="random operation"):
        vmap(one, randomness="error")(torch.arange(1))


@pytest.mark.parametrize("lead", [(5,), (2, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_batched_linear_layer_and_its_gradients(lead: tuple[int, ...], bias: bool) -> None:
    layers = [nn.Linear(3, 2, bias) for _ in range(4)]
    names = [name for name, _ in layers[0].named_parameters()]
    stacks = [torch.stack([getattr(layer, name) for layer in layers]).detach().requires_grad_() for name in names]
    x = torch.randn(4, *lead, 3, requires_grad=True)

    def one(x: Tensor, *own: Tensor) -> Tensor:
        with Batched():
            return F.linear(x, *own).square().sum()

    sums = vmap(one)(x, *stacks)
    gradients = torch.autograd.grad(sums.sum(), [x, *stacks])
    assert all(g.is_contiguous() for g in gradients[1:])
    for j, layer in enumerate(layers):
        own = torch.autograd.grad(layer(x[j]).square().sum(), [x, *layer.parameters()])
        torch.testing.assert_close([g[j] for g in gradients], [own[0][j], *own[1:]])
    assert torch.autograd.gradcheck(linear, (x[0], *[stack[0] for stack in stacks]))


def test_who_shares_a_process() -> None:
    told = ["seed=1", "model.hidden=[400,200]", "loss.beta=1e-3", "hydra.sweep.subdir='1'"]
    assert kind(told) == kind(["seed=22", "model.hidden=[100,50]", "loss.beta=-.5", "hydra.sweep.subdir='7'"])
    assert len({kind([o]) for o in ("model=conv", "model=mlp", "a.norm1=1", "a.norm2=1", "x=null", "x=1")}) == 6
    assert kind(["experiment=a_2016_vae"]) != kind(["experiment=a_2017_vae"])


HARM = '''
from lightning.pytorch.callbacks import Callback

class Harm(Callback):
    """Raises in the second epoch of some seeds."""

    def __init__(self, seed, bad):
        self.bad = seed >= bad

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1 and self.bad:
            raise RuntimeError("harm was asked for")
'''


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command line in a folder with the callback."""
    (tmp_path / "harm.py").write_text(HARM)
    (tmp_path / "callback").mkdir()

    def run(*arguments: str, bad: int = 99) -> subprocess.CompletedProcess[str]:
        node = {"_target_": "harm.Harm", "seed": "${seed}", "bad": bad}
        OmegaConf.save({"harm": node}, tmp_path / "callback" / "harm.yaml")
        line = [sys.executable, "-m", "vae_lightning", *arguments]
        return forked.run(line, tmp_path, forked.environment(PYTHONPATH=str(tmp_path)), timeout=200)

    return run


SWEEP = [
    "-m",
    "--config-dir=.",
    "hydra/launcher=vectorized",
    "callback=harm",
    "hydra.sweep.dir=sweep",
    *SMALL[:-1],
    *CPU,
]


def test_what_failed_in_an_ensemble_is_resumed_as_one(run: Callable[..., Any], tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)  # as in the processes of the sweep
    sweep = tmp_path / "sweep"
    done = run(*SWEEP, "seed=1,2,3", bad=2)
    assert done.returncode == 1, done.stdout + done.stderr
    first = {int(path.name): known for path, known in summary.jobs(sweep).items()}
    assert [first[n]["state"] for n in range(3)] == ["done", "failed", "failed"]
    assert [first[n]["reason"] for n in range(3)] == [None, *2 * ["RuntimeError: harm was asked for"]]
    assert len({known["pid"] for known in first.values()}) == 1
    assert "alone" not in done.stdout
    for n in range(3):
        for name in (status.OUTPUT, "vae_lightning.log"):
            text = (sweep / str(n) / name).read_text()
            assert text.count("digits, 96 images") == text.count("epoch 1/2") == 1
            assert ("harm was asked for" in text) == (n > 0)
    before = {path: path.read_bytes() for path in (sweep / "0").rglob("*") if path.is_file()}
    done = run("sweep.resume=sweep", "--config-dir=.", "resume.override=[callback]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.read_bytes() == content for path, content in before.items())
    after = {int(path.name): known for path, known in summary.jobs(sweep).items()}
    assert len({after[1]["pid"], after[2]["pid"], first[0]["pid"]}) == 2
    assert all("going on after epoch 1" in (sweep / str(n) / status.OUTPUT).read_text() for n in (1, 2))
    job(tmp_path / "alone", [*SMALL, *CPU, "seed=3"])
    assert results(sweep / "2")["test"] == pytest.approx(results(tmp_path / "alone")["test"], rel=1e-4)


def test_what_cannot_be_batched_has_a_process_of_its_own(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run(*SWEEP, "model.latent_dim=2,3", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    known = {int(path.name): known for path, known in summary.jobs(tmp_path / "sweep").items()}
    assert {known["alone"] for known in known.values()} == {"no other job has networks of the same shapes"}
    assert len({known["pid"] for known in known.values()}) == 2
    assert done.stdout.count("no other job has networks of the same shapes") == 2  # when it was found, and at the end
    assert "2 of 2 jobs were trained alone: no other job" in done.stdout
    for n in range(2):
        assert (tmp_path / "sweep" / str(n) / status.OUTPUT).read_text().count("digits, 96 images") == 1


def test_who_has_no_equal_is_alone(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run(*SWEEP, "trainer.max_epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 jobs were trained alone: no other job differs from it in numbers alone" in done.stdout
