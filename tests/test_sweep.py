"""Sweeps: jobs that fail do not touch the others, nothing is lost, and what is unfinished can be run."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from conftest import command
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from vae_lightning import objective, status
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.paths import CONF
from vae_lightning.sweep import share, summary
from vae_lightning.sweep.launcher import ProcessLauncher
from vae_lightning.sweep.resume import expand

QUICK = ["data=digits", "data.limit=60", "model.hidden=[8]", "trainer.max_epochs=2"]
QUICK += ["accelerator=cpu", "logger=none", "pictures=false"]
HARM = '''
import os, signal, sys, time
import torch
from lightning.pytorch.callbacks import Callback

class Harm(Callback):
    """Does something to the second epoch of some seeds."""

    def __init__(self, seed, how, folder):
        self.how, self.folder = how.get(f"s{seed}"), folder

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1 and self.how:
            getattr(self, self.how)(pl_module)

    def fail(self, module):
        raise RuntimeError("harm was asked for")

    def leave(self, module):
        os._exit(3)

    def quit(self, module):
        sys.exit(4)

    def die(self, module):
        os.kill(os.getpid(), signal.SIGKILL)

    def diverge(self, module):
        with torch.no_grad():
            next(module.parameters()).fill_(float("nan"))

    def hang(self, module):
        (self.folder / "hangs").write_text(str(os.getpid()))
        time.sleep(600)
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the callback."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "harm.py").write_text(HARM)
    (folder / "callback").mkdir()
    return folder


def write(own: Path, harm: dict[int, str]) -> None:
    """What is done to which seed, from now on."""
    node = {"_target_": "harm.Harm", "seed": "${seed}", "how": {f"s{k}": v for k, v in harm.items()}}
    OmegaConf.save({"harm": node}, own / "callback" / "harm.yaml")


@pytest.fixture(scope="module")
def resumed(own: Path) -> Callable[..., tuple[int, str]]:
    """Runs what is left of a sweep, without harm."""

    def run(*arguments: str, cwd: Path) -> tuple[int, str]:
        write(own, {})
        line = [sys.executable, "-m", "vae_lightning", "sweep.resume=sweep", f"--config-dir={own}", *arguments]
        line.append("resume.override=[callback]")
        done = forked.run(line, cwd, forked.environment(PYTHONPATH=str(own)), timeout=240)
        return done.returncode, done.stdout + done.stderr

    return run


def hears() -> None:
    """Ctrl-C, also where the tests were started in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def sweep(own: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `-m` with a callback that does harm to some of the seeds."""

    def start(*arguments: str, cwd: Path, harm: dict[int, str]) -> subprocess.Popen[str]:
        write(own, harm)
        first = [f"--config-dir={own}", "-m", "callback=harm", *QUICK, "hydra.sweep.dir=sweep"]
        environment = {**os.environ, "PYTHONPATH": str(own), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "vae_lightning", *first, *arguments]
        pipe = subprocess.PIPE
        group = {"start_new_session": True}  # as a terminal does, whose Ctrl-C goes to all of it
        return subprocess.Popen(
            line, cwd=cwd, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True, preexec_fn=hears, **group
        )

    return start


def ended(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str]:
    try:
        said, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, said


def until(true: Callable[[], Any], seconds: float = 120) -> Any:
    """What `true` gives as soon as it is something."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has asked for its exit code has, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def statuses(folder: Path) -> dict[int, dict[str, Any]]:
    return {int(path.name): known for path, known in summary.jobs(folder).items()}


def test_twelve_jobs_of_which_four_fail_each_in_its_way(
    sweep: Callable[..., Any], resumed: Callable[..., Any], tmp_path: Path
) -> None:
    harm = {1: "fail", 4: "leave", 7: "die", 9: "diverge"}
    code, said = ended(sweep("seed=range(12)", "hydra.launcher.n_jobs=2", cwd=tmp_path, harm=harm))
    folder = tmp_path / "sweep"
    first = statuses(folder)
    assert code == 1, said
    assert sorted(first) == list(range(12))
    assert {n for n, known in first.items() if known["state"] == "done"} == set(range(12)) - set(harm)
    reasons = {n: known["reason"] for n, known in first.items() if known["state"] == "failed"}
    assert reasons[1] == "RuntimeError: harm was asked for"
    assert reasons[4] == "ended with exit code 3"
    assert reasons[7] == "killed by SIGKILL"
    assert reasons[9].startswith("step 3: the loss is nan")
    for n in harm:
        assert re.search(rf"^{n}: seed={n}: .*; see sweep/{n}/output.log$", said, re.M), said
    assert "in on_train_epoch_start" in (folder / "1" / "output.log").read_text()
    assert len({known["pid"] for known in first.values()}) == 12
    for n, known in first.items():
        assert known["overrides"][-1] == f"seed={n}"
        assert known["seconds"] > 0
        if n not in harm:
            results = json.loads((folder / str(n) / "results.json").read_text())
            assert known["result"] == results["test"]["loss"]
            assert results["device"] == "1 x cpu (1 threads)"
    assert said.count(" done") == 8
    assert "4 of 12 jobs are unfinished: python -m vae_lightning sweep.resume=sweep" in said

    before = {
        p: p.read_bytes() for n in set(range(12)) - set(harm) for p in (folder / str(n)).rglob("*") if p.is_file()
    }
    code, said = resumed(cwd=tmp_path)
    assert code == 0, said
    after = statuses(folder)
    assert {n for n in after if after[n]["pid"] != first[n]["pid"]} == set(harm)
    assert all(known["state"] == "done" for known in after.values())
    assert all(path.read_bytes() == content for path, content in before.items())
    for n in (1, 4, 7, 9):
        assert "going on after epoch 1" in (folder / str(n) / "output.log").read_text()


def test_interrupted_from_the_keyboard_it_can_go_on(
    sweep: Callable[..., Any], resumed: Callable[..., Any], tmp_path: Path
) -> None:
    running = sweep("seed=1,2", cwd=tmp_path, harm={1: "hang"})
    pid = int(until(lambda: (p := tmp_path / "sweep/0/hangs").exists() and p.read_text()))
    assert os.getpgid(pid) == pid  # the terminal's Ctrl-C does not reach it
    os.killpg(running.pid, signal.SIGINT)
    code, said = ended(running, 60)  # it hangs in its step, and is killed when it has had its time
    assert code == 130
    assert "interrupted: python -m vae_lightning sweep.resume=" in said
    assert "Traceback" not in said
    assert gone(pid)
    assert {n: known["state"] for n, known in statuses(tmp_path / "sweep").items()} == {0: "interrupted"}
    code, said = resumed("hydra/launcher=basic", cwd=tmp_path)
    assert code == 0, said
    assert "going on after epoch 1" in said
    assert {n: known["state"] for n, known in statuses(tmp_path / "sweep").items()} == {0: "done", 1: "done"}


def test_no_job_outlives_the_sweep(sweep: Callable[..., Any], tmp_path: Path) -> None:
    running = sweep("seed=1,2", "hydra.launcher.n_jobs=2", cwd=tmp_path, harm={1: "hang", 2: "hang"})
    pids = [int(until(lambda n=n: (p := tmp_path / f"sweep/{n}/hangs").exists() and p.read_text())) for n in (0, 1)]
    running.kill()
    running.communicate()
    until(lambda: all(map(gone, pids)), 20)
    assert {known["state"] for known in statuses(tmp_path / "sweep").values()} == {"running"}
    assert summary.show(tmp_path / "sweep") == 2


def test_joblib_runs_a_sweep_too(sweep: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason='pip install "vae-lightning[cluster]" brings it')
    arguments = ["seed=1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    code, said = ended(sweep(*arguments, cwd=tmp_path, harm={1: "fail", 2: "quit"}))
    assert code == 1, said
    known = statuses(tmp_path / "sweep")
    assert [known[n]["state"] for n in range(3)] == ["failed", "failed", "done"]
    assert "2 of 3 jobs are unfinished" in said


def threads(config: DictConfig) -> float:
    return float(100 * config.seed + torch.get_num_threads())


def test_a_job_that_cannot_be_composed_fails_alone(tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("config", [f"hydra.sweep.dir={tmp_path}"], RunMode.MULTIRUN)
    launcher = ProcessLauncher(n_jobs=2)
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    launcher.setup(hydra_context=context, task_function=threads, config=config)
    before = len(os.listdir("/proc/self/fd"))
    returned = launcher.launch([["seed=2"], ["nowhere=1"], ["seed=3"]], 5)
    cores = max(1, len(os.sched_getaffinity(0)) // 2)
    each = min(cores, int(os.environ.get("OMP_NUM_THREADS", cores)))
    assert [r.return_value for r in returned] == pytest.approx([200 + each, math.nan, 300 + each], nan_ok=True)
    known = statuses(tmp_path)
    assert list(known) == [6]  # this task keeps no status
    assert known[6]["reason"].startswith("ConfigCompositionException: Could not override 'nowhere'")
    assert known[6]["overrides"] == ["nowhere=1"]
    assert "Traceback" in (tmp_path / "6" / "output.log").read_text()
    assert len(os.listdir("/proc/self/fd")) <= before + 8  # the server's, not the jobs'


def test_who_starts_the_jobs_stays_small(tmp_path: Path) -> None:
    """No torch, so no device, and nothing that takes seconds to import."""
    code = f"""
import sys
sys.argv = ["vae_lightning", "-m", *{QUICK}, "seed=1", "hydra.sweep.dir=sweep"]
from vae_lightning.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "sweep" / "0" / "results.json").exists()


def test_what_cannot_be_resumed_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a sweep"):
        expand([f"sweep.resume={tmp_path}"])
    assert expand(["loss.beta=4"]) == ["loss.beta=4"]


def test_a_resumed_sweep_has_its_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_LIGHTNING_RESUME", "")  # so that it is put back
    overrides = {"task": ["loss.beta=1,2", "seed=1"], "hydra": ["hydra.mode=MULTIRUN", "hydra/launcher=joblib"]}
    sources = [{"path": "/own", "provider": "command-line"}, {"path": "hydra.conf", "provider": "hydra"}]
    saved = {"hydra": {"overrides": overrides, "runtime": {"config_sources": sources}}}
    OmegaConf.save(saved, tmp_path / "multirun.yaml")
    with pytest.raises(ConfigError, match=f"sweep.resume={tmp_path} --config-dir=/own"):  # it may bring any code
        expand([f"sweep.resume={tmp_path}", "seed=2"])
    found = expand([f"sweep.resume={tmp_path}", "--config-dir=/own", "seed=2"])
    assert found[:5] == ["--multirun", "--config-dir=/own", "hydra/launcher=joblib", "loss.beta=1,2", "seed=2"]
    assert found[5:] == [f"hydra.sweep.dir='{tmp_path}'", "+hydra.job.env_set.VAE_LIGHTNING_RESUME='1'"]


@pytest.mark.parametrize("content", ["", "3", "[]", "{}", '{"epoch": 1}', '{"state": "do'])
def test_a_damaged_status_is_of_a_job_to_be_run_again(content: str, tmp_path: Path) -> None:
    for job in ("0", "1"):
        status.update(tmp_path / job, state="done", result=1.0, overrides=[f"seed={job}"], objective=["test/elbo"])
    (tmp_path / "0" / status.NAME).write_text(content)
    assert summary.show(tmp_path) == 1


@pytest.mark.parametrize(("n", "shown"), [(5, 5), (100, 80)])
def test_a_long_table_shows_the_best_and_the_failed(
    n: int, shown: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(n):
        said: dict[str, Any] = {"overrides": [f"seed={i}"], "objective": ["test/elbo"], "seconds": 1.0}
        end = {"state": "done", "result": float(i)} if i % 2 else {"state": "failed", "reason": f"why {i}\nmore"}
        (tmp_path / str(i)).mkdir()
        status.update(tmp_path / str(i), **said, **end)
    assert summary.show(tmp_path) == (n + 1) // 2
    said_all = capsys.readouterr().out
    rows = re.findall(r"^│ +(\d+) │", said_all, re.M)
    assert len(rows) == shown
    assert rows == sorted(rows, key=int)
    best = max(i for i in range(n) if i % 2)
    assert re.search(rf"│ +{best} │ seed={best} .* done, the best", said_all)
    assert f"0: seed=0: why 0; see {tmp_path}/0" in said_all


@pytest.mark.parametrize(("name", "wanted"), [("test/elbo", "maximize"), ("val/accuracy", "maximize")])
def test_more_of_it_is_better(name: str, wanted: str) -> None:
    assert objective.direction(name) == wanted
    assert objective.direction("test/rate") == objective.direction("val/bits_per_dim") == "minimize"


def test_an_objective_is_a_finite_number() -> None:
    results = {"test": {"elbo": -1.5, "rate": float("nan")}, "val": {"rate": 2}}
    assert objective.values(results, ["test/elbo", "val/rate"]) == [-1.5, 2.0]
    for name in ("test/rate", "val/elbo"):
        with pytest.raises(UserError, match=f"objective={name}"):
            objective.values(results, name)
    assert objective.wrong(["test/elbo", "val/rate"]) is None
    assert all(map(objective.wrong, ("elbo", "train/elbo", "test/", ["test/rate", "elbo"])))
    with pytest.raises(ConfigError, match="this run measures loss, rate"):
        objective.check("test/elbo", ["loss", "rate"])


@pytest.mark.parametrize(
    ("visible", "place", "places", "mine"),
    [("0,1,2,3", 1, 2, "2,3"), ("4,5", 3, 4, "5"), ("7", 1, 2, "7"), ("0,1,2", 1, 2, "1"), ("", 0, 2, "")],
)
def test_gpus_are_shared_out(visible: str, place: int, places: int, mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    share.gpus(place, places)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == mine


def test_gpus_are_counted_without_touching_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(share, "GPUS", tmp_path)
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / bus).mkdir()
    share.gpus(1, 2)
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "1"


def test_a_sweep_has_a_folder_by_the_time_and_a_server_of_its_own(tmp_path: Path) -> None:
    """Started as a user starts it: jobs come from a server that knows nothing but what it has imported."""
    how = ["data=digits", "data.limit=60", "model.hidden=[8]", "trainer.max_epochs=1", "pictures=false"]
    done = command("-m", *how, "logger=none", "seed=1,2", cwd=tmp_path, anew=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "outputs").glob("*/*")
    assert {n: known["state"] for n, known in statuses(folder).items()} == {0: "done", 1: "done"}
