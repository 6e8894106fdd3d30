"""What recorded and compiled steps cost and spare. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_graph.py

A recorded step takes the longer of two times: the card's, and that of the processor which launches it. The second is
measured anywhere, with recordings that do nothing and images of a few pixels; a processor's operation stands there for
a launch, which takes somewhat longer.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmark.harness import alternated
from benchmark.loops import Framework
from vae_lightning.callback import accelerate

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("float32")]
GRAPH, COMPILE = "accelerator.graph=true", "accelerator.compile=true"
WORKS = {
    "default MLP, batch 128": ["data.batch_size=128", "accelerator=gpu"],
    "IWAE architecture, batch 20": ["experiment=burda_2016_vae", "accelerator=gpu"],
    "conv, batch 128, bfloat16": ["model=conv", "data.batch_size=128", "accelerator=gpu_bf16"],
}


class Idle:
    """A recorder whose recordings do nothing."""

    def warm_up(self, work: Callable[[], Any]) -> Any:
        return work()

    def record(self, work: Callable[[], Any], streams: Any = ()) -> tuple[Any, Callable[[], None]]:
        return work(), lambda: None

    def noise(self, lit: Any, own: bool = False) -> Any:
        return SimpleNamespace(learn=lambda work: None, start=lambda batch: None)


@pytest.mark.parametrize("at_once", [16, 128])
def test_the_processors_part_of_a_recorded_step(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accelerate, "OnCard", lambda device: Idle())
    monkeypatch.setattr(accelerate, "obstacle", lambda trainer: None)
    tiny = ["data=digits", "data.batch_size=1", "model.hidden=[16]", "model.latent_dim=4", "accelerator=cpu", GRAPH]
    run = Framework(tmp_path / "run", *tiny, f"trainer.minibatches_per_step={at_once}", at_once=6)
    run.epoch()
    each = statistics.median(run.steps[1:])
    with capsys.disabled():
        print(
            f"\n{at_once:4} minibatches per step: {1e6 * each:.0f} µs each, at most {128 / each:,.0f} images/s at 128"
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("how", [GRAPH, COMPILE])
@pytest.mark.parametrize("work", WORKS)
def test_against_one_operation_after_the_other(
    work: str, how: str, tmp_path: Path, mnist: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORKS[work], f"data.root={mnist}", "trainer.minibatches_per_step=128"]
    runs = [Framework(tmp_path / name, *words, *more, at_once=4) for name, more in (("a", [how]), ("b", []))]
    timed = alternated(runs[0].epoch, runs[1].epoch, times=3)
    with capsys.disabled():
        speed = 1 / statistics.median(timed.a)
        print(f"\n{work}, {how}: {statistics.median(timed.ratios):.2f} × the time of without, {speed:,.0f} images/s")


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_a_run_compiled_for_the_processor_is_the_run(tmp_path: Path) -> None:
    words = [
        "data=digits",
        "data.limit=48",
        "data.batch_size=16",
        "model.hidden=[16]",
        "beta=warmup",
        "accelerator=cpu",
    ]
    plain, compiled = (Framework(tmp_path / name, *words, *more) for name, more in (("a", []), ("b", [COMPILE])))
    plain.epoch()
    compiled.epoch()
    a, b = plain.run.lit.state_dict(), compiled.run.lit.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-5) for name in a)
