"""Two processes with half a minibatch each are one with all of it: gradients, values, buffers, whole runs.

The processes are started once, go through all cases, and leave what they found in a file each. Noise of an image is
cut out of the noise that one process would draw; all other noise differs between the processes on purpose.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import COMPANIONS, DRAW_FREE, SMALL, composed, digits, options, parts
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from vae_lightning import gather
from vae_lightning.compose import compose
from vae_lightning.context import one_hot
from vae_lightning.data.loader import MemoryLoader, Minibatch
from vae_lightning.gather import over
from vae_lightning.train import prepare

WORLD, CLASSES, BATCH = 2, 10, 14  # 7 + 7 or 7 + 6 images: no other dimension is as long
SIZES = (27, 15)  # 14 and 13 images; 14 and a single one, which one of the processes does not have
OPTIMAL = ["likelihood=normal", "likelihood.scale=optimal", "data.binarize=none"]
RESTARTS = ["posterior=codebook", "posterior.restart_below=1"]  # codes start again in each minibatch
CASES = [
    *([option, *COMPANIONS.get(option, [])] for option in options("loss")),
    ["loss=elbo", "loss.free_bits=0.01", "loss.samples=3"],
    ["loss=tc", "loss.weighting=weighted", "posterior=laplace"],
    ["loss=dip", "loss.kind=ii"],
    ["loss=mmd", "loss.kernel=imq", "prior=conditional", "condition=label"],
    ["loss=rae", "loss.regularizer=gradient_penalty", *COMPANIONS["loss=rae"]],
    ["loss=elbo", *OPTIMAL],
    ["loss=iwae", *OPTIMAL],
    ["loss=m2", *COMPANIONS["loss=m2"], *OPTIMAL],
    [*COMPANIONS["posterior=codebook"], *RESTARTS, "posterior.levels=2"],
    [*COMPANIONS["posterior=codebook"], *RESTARTS, "posterior.ema=0"],
]
RUNS = {  # no draws, but of the codes that start again: the same on the first process as on the only one
    "sigma": ["posterior=point", "loss=ae", *OPTIMAL, "data.limit=91"],
    "codes": [*COMPANIONS["posterior=codebook"], *RESTARTS, "data.limit=81"],
}
Found = dict[str, Any]


def name(case: Sequence[str]) -> str:
    return "-".join(case)


class Noise(TorchDispatchMode):
    """Draws of images are those of one process, of which each process has its rows; other draws are its own."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__()
        self.rank, self.world, self.draws = rank, world, 0
        self.here = self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return out
        kind = func.overloadpacket.__name__
        if kind in ("rand", "rand_like"):
            new = self.draw(torch.rand, out)
        elif kind in ("randn", "randn_like"):
            new = self.draw(torch.randn, out)
        elif kind == "uniform_":
            low, high = (*args[1:], *(0.0, 1.0)[len(args) - 1 :])
            new = low + (high - low) * self.draw(torch.rand, out)
        elif kind == "normal_" and len(args) == 1:
            new = self.draw(torch.randn, out)
        elif kind == "normal" and func._overloadname == "Tensor_Tensor":
            new = args[0] + args[1] * self.draw(torch.randn, out)
        elif kind == "randint" and func._overloadname == "default":
            new = (args[0] * self.draw(torch.rand, out)).long()
        else:
            raise NotImplementedError(f"cut the draws of {func} too")
        return out.copy_(new)

    def draw(self, make: Callable[..., Tensor], like: Tensor) -> Tensor:
        """Noise in the shape of `like`."""
        self.draws += 1
        shape, own = list(like.shape), self.total < self.world
        dims = [d for d, n in enumerate(shape) if n in (self.here, CLASSES * self.here)]
        if own or not dims:
            generator = torch.Generator().manual_seed(self.draws + 1000 * self.rank)
            return make(shape, generator=generator, dtype=torch.float64)
        (dim, *_), repeats = dims, shape[dims[0]] // self.here
        shape[dim] = repeats * self.total
        whole = make(shape, generator=torch.Generator().manual_seed(self.draws), dtype=torch.float64)
        rows = torch.arange(self.rank, self.total, self.world)
        return whole.unflatten(dim, (repeats, self.total)).index_select(dim + 1, rows).flatten(dim, dim + 1)


class Step(nn.Module):
    """What a LitVAE does with a minibatch, for DistributedDataParallel."""

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        with over(batch.total):
            return self.loss(self.model, batch.x, one_hot(batch.y, self.model.n_context))


def built(case: Sequence[str]) -> Step:
    """Model and loss with the same weights in all processes, at a point where what a batch means makes a difference."""
    config, _ = composed(*case, *SMALL)
    torch.manual_seed(0)
    step = Step(*parts(config, n_train=100))
    if {"loss=capacity", "loss.free_bits=0.01"} & set(case):  # what the mean rate is compared with lies between the
        x, c = digits(BATCH)[0], torch.zeros(BATCH, 0)  # rates of the halves of a minibatch, but not in the middle
        with torch.no_grad():
            halves = [step.model(x[r::WORLD], c[r::WORLD]).latents[0] for r in range(WORLD)]
            first, second = (kl_divergence(half.q.base_dist, half.p.base_dist).mean(0) for half in halves)  # (D,)
        between = 0.7 * first + 0.3 * second
        step.loss.capacity, step.loss.free_bits = between.sum().item(), between[0].item()
    return step


def gradients(case: Sequence[str], size: int, rank: int = 0, world: int = 1) -> Found:
    """Of two accumulated minibatches: gradients, buffers, and the values of each."""
    step = built(case)
    wrapped = DistributedDataParallel(step, broadcast_buffers=False) if world > 1 else step
    x, c = digits(size)
    y = c.argmax(1).where(torch.arange(size) % 3 > 0, -1)
    noise, values = Noise(rank, world), list[dict[str, float]]()
    for chunk in MemoryLoader(x, y, BATCH, chunk=2, accumulate=2, rank=rank, world=world):
        for batch in chunk:
            noise.here, noise.total = len(batch.x), batch.total
            with noise:
                loss, terms = wrapped(batch)
            (loss * batch.weight).backward()
            means = torch.stack([loss, *terms.values()]).detach() * batch.size / batch.total
            if world > 1:
                dist.all_reduce(means)
            values.append(dict(zip(["loss", *terms], means.tolist(), strict=True)))
    named = {n: p.grad for n, p in step.named_parameters() if p.requires_grad}
    return {"gradients": named, "buffers": dict(step.named_buffers()), "values": values}


def trained(run: str, folder: Path, accelerator: str) -> Found:
    """The test of a run, and its buffers; `curves` has the rest."""
    folder.mkdir(exist_ok=True)
    config, choices = compose(
        [
            *DRAW_FREE,
            f"accelerator={accelerator}",
            "trainer.precision=64-true",
            "trainer.max_epochs=2",
            "trainer.minibatches_per_step=4",
            "trainer.accumulate_grad_batches=2",
            "trainer.log_every_n_steps=1",
            "data.batch_size=16",
            "data.eval_batch_size=20",
            "model.hidden=[16]",
            "model.latent_dim=4",
            *RUNS[run],
        ]
    )
    made = prepare(config, choices, folder)
    made.trainer.fit(made.lit, made.data)
    (tested,) = made.trainer.test(made.lit, made.data, verbose=False)
    return {"test": tested, "buffers": dict(made.lit.named_buffers())}


def curves(folder: Path) -> list[dict[str, float]]:
    """All that a run has written down, a row a step."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def process(rank: int, folder: Path) -> None:
    """One of two: all cases, into a file."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    Distribution.set_default_validate_args(True)
    places = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": WORLD, "LOCAL_WORLD_SIZE": WORLD}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {key: str(value) for key, value in (places | where).items()}
    meeting, patience = f"file://{folder}/meeting", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=meeting, timeout=patience, rank=rank, world_size=WORLD)
    found: dict[Any, Found] = {(name(case), n): gradients(case, n, rank, WORLD) for case in CASES for n in SIZES}
    found |= {run: trained(run, folder / run, "ddp_cpu") for run in RUNS}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left what they found."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(process, args=(folder,), nprocs=WORLD)
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[Any, Found]]:
    """What each of them found."""
    return [torch.load(folder / f"{r}.pt", weights_only=True) for r in range(WORLD)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES, ids=name)
def test_two_processes_find_the_gradient_of_one(case: list[str], size: int, ranks: list[dict[Any, Found]]) -> None:
    one = gradients(case, size)
    assert any(gradient.any() for gradient in one["gradients"].values())
    for two in (found[name(case), size] for found in ranks):
        torch.testing.assert_close(two["gradients"], one["gradients"], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(two["buffers"], one["buffers"], rtol=1e-10, atol=1e-10)
        for a, b in zip(two["values"], one["values"], strict=True):
            assert a == pytest.approx(b, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_have_the_curves_of_one(
    run: str, ranks: list[dict[Any, Found]], folder: Path, tmp_path: Path
) -> None:
    one, alone, together = trained(run, tmp_path, "cpu"), curves(tmp_path), curves(folder / run)
    assert sum("train/loss" in row for row in alone) == 6  # three steps an epoch
    assert sum("val/loss" in row for row in alone) == 2
    for a, b in zip(together, alone, strict=True):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-9)
    for two in (found[run] for found in ranks):
        assert two["test"] == pytest.approx(one["test"], rel=1e-9, abs=1e-9)
        torch.testing.assert_close(two["buffers"], one["buffers"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_what_three_processes_send_adds_up_to_the_whole(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where some of them have no image of the minibatch."""
    monkeypatch.setattr(gather, "_sum", lambda x: x)
    whole, row, place = torch.randn(total, 4, 2), torch.randint(total, (20,)), torch.randint(4, (20,))
    sent = []
    for rank in range(3):
        here = whole[rank::3] if rank < total else whole[:1]
        token = gather._part.set(gather.Part(total, rank, 3))
        assert torch.equal(gather.mine(whole), here)
        assert gather.images(len(here)) == total
        sent.append(
            [
                gather.gather(here),
                gather.gather(here.movedim(0, 1), dim=1).movedim(1, 0),
                gather.add(here.sum(0)),
                gather.average(here.mean(0)),
                gather.take(here, row, place),
                gather.shared(torch.tensor(rank + 5)),
            ]
        )
        gather._part.reset(token)
    expected = [whole, whole, whole.sum(0), whole.mean(0), whole[row, place], torch.tensor(5)]
    for parts_of_one, value in zip(zip(*sent, strict=True), expected, strict=True):
        torch.testing.assert_close(sum(parts_of_one), value)
