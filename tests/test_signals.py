"""Who is asked to end does, with all saved, all processes at the same step, and none of them left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from survival import SHORT, agree, left_running, results, run

from vae_lightning.checkpoint import read_checkpoint

CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 138}
RANKS = ["accelerator=ddp_cpu"]


def status(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "status.json").read_text()))


def ended(done: subprocess.CompletedProcess[str], code: int, cwd: Path) -> None:
    """It has ended with that code, in good order, and alone."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert left_running(cwd) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The working folder of a command that nobody has harmed."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*arguments: str) -> Path:
        if arguments not in made:
            cwd = tmp_path_factory.mktemp("whole")
            flags = [a for a in arguments if a.startswith("-")]
            ended(run("none", *flags, *SHORT, *arguments[len(flags) :], cwd=cwd), 0, cwd)
            made[arguments] = cwd
        return made[arguments]

    return make


@pytest.mark.parametrize("harm", [
    "SIGTERM@minibatch:9/rank1", "SIGTERM@minibatch:9/main", "SIGINT@minibatch:9/group",
    "SIGUSR1@validation:2/rank0", "SIGTERM@validation:2/main", "SIGTERM@test:1/rank1",
])  # fmt: skip
def test_two_processes_end_at_the_same_step(harm: str, whole: Callable[..., Path], tmp_path: Path) -> None:
    done = run(harm, *SHORT, *RANKS, "hydra.run.dir=run", cwd=tmp_path)
    ended(done, CODES[harm.partition("@")[0]], tmp_path)
    known = status(tmp_path / "run")
    assert known["state"] == "interrupted"
    assert "saved" in known["reason"]
    ended(run("none", "ckpt=run", cwd=tmp_path), 0, tmp_path)
    agree(whole(*RANKS, "hydra.run.dir=run") / "run", tmp_path / "run")


SWEEP = ["seed=1,2", "hydra.sweep.dir=sweep"]


@pytest.mark.parametrize("launcher", ["process", "vectorized"])
@pytest.mark.parametrize("harm", ["SIGTERM@minibatch:9/main", "SIGINT@minibatch:9/group", "SIGTERM@minibatch:9"])
def test_the_jobs_of_a_sweep_are_saved(harm: str, launcher: str, whole: Callable[..., Path], tmp_path: Path) -> None:
    how = [*SWEEP, f"hydra/launcher={launcher}"]
    done = run(harm, "-m", *SHORT, *how, cwd=tmp_path)
    signal, _, where = harm.partition("@")
    each_alone = "/" not in where  # the sweep goes on with the next
    ended(done, 1 if each_alone else CODES[signal], tmp_path)
    states = [status(folder)["state"] for folder in (tmp_path / "sweep").glob("[0-9]")]
    assert states == ["interrupted"] * (2 if each_alone or launcher == "vectorized" else 1)
    assert status(tmp_path / "sweep" / "0")["reason"].startswith(f"{signal}: saved after step ")
    assert "sweep.resume=sweep" in done.stdout
    ended(run("none", "sweep.resume=sweep", cwd=tmp_path), 0, tmp_path)
    for n in "01":
        a, b = (results(folder / "sweep" / n)["test"] for folder in (whole("-m", *SWEEP), tmp_path))
        assert a == (b if launcher == "process" else pytest.approx(b, rel=1e-5))
        assert status(tmp_path / "sweep" / n)["state"] == "done"


def test_two_ranks_of_a_job_of_a_sweep_are_saved(tmp_path: Path) -> None:
    done = run("SIGTERM@minibatch:9/rank1", "-m", *SHORT, *RANKS, "seed=1", "hydra.sweep.dir=sweep", cwd=tmp_path)
    ended(done, 1, tmp_path)
    assert status(tmp_path / "sweep" / "0")["reason"] == "SIGTERM: saved after step 10"


def test_before_training_it_ends_at_once(tmp_path: Path) -> None:
    ended(run("SIGTERM@data:1", *SHORT, "hydra.run.dir=run", cwd=tmp_path), 143, tmp_path)
    assert status(tmp_path / "run")["state"] == "interrupted"
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("harm", ["SIGTERM@draw:1", "SIGINT@draw:1"])
@pytest.mark.parametrize(("module", "left"), [("evaluate", "evaluate.json"), ("generate", "generated")])
def test_other_commands_end_at_once_and_leave_nothing_half(
    module: str, left: str, harm: str, whole: Callable[..., Path], tmp_path: Path
) -> None:
    folder = whole("hydra.run.dir=run") / "run"
    done = run(harm, str(folder), cwd=tmp_path, module=f"vae_lightning.{module}")
    ended(done, CODES[harm.partition("@")[0]], tmp_path)
    assert not (folder / left).exists()


def test_the_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    done = run("SIGINT@minibatch:9/twice", *SHORT, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == -2  # a shell says 130
    assert "SIGINT: ends after this step; Ctrl-C ends it at once" in done.stderr
    assert left_running(tmp_path) == []
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 6  # of the first epoch
    ended(run("none", "ckpt=run", cwd=tmp_path), 0, tmp_path)
