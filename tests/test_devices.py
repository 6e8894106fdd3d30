"""Several processes for one model: started by us, by torchrun on two hosts, by Slurm; they agree, and fail together.

Most processes here are forked from one server that has imported torch and lightning, as those of a run are.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from conftest import command
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from omegaconf import OmegaConf

from vae_lightning import child, status
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError, NonFiniteError
from vae_lightning.ranks import place as places
from vae_lightning.ranks.command import expand
from vae_lightning.ranks.place import place
from vae_lightning.ranks.start import RankError, processes, together
from vae_lightning.train import train
from vae_lightning.trainer import trainer

QUICK = ["data=digits", "data.limit=100", "data.val_size=50", "model.hidden=[8]", "trainer.max_epochs=2", "logger=csv"]
QUICK += ["trainer.enable_progress_bar=false", "pictures=false", "accelerator=ddp_cpu"]
SLOW = 120.0  # seconds: more than anything here takes on a busy machine
SOON = 15.0  # seconds in which all ends after one process has failed: they would wait for each other for half an hour
HARM = '''
import os, signal, time
from pathlib import Path
from lightning.pytorch.callbacks import Callback

class Harm(Callback):
    """Does something in the second epoch of one process, of one seed, unless HARMLESS is set."""

    def __init__(self, seed, only=None, how="nothing", rank=1):
        self.active, self.how, self.rank = "HARMLESS" not in os.environ and only in (None, seed), how, rank

    def on_train_epoch_start(self, trainer, pl_module):
        if self.active and trainer.global_rank == self.rank and trainer.current_epoch == 1:
            getattr(self, self.how)(Path(trainer.default_root_dir, "told"))

    def nothing(self, told):
        pass

    def die(self, told):
        os.kill(os.getpid(), signal.SIGKILL)

    def preempted(self, told):  # once, in the way of submitit
        if not told.exists():
            told.touch()
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(60)
'''


class Command:
    """`python -m vae_lightning` in a process forked from the server."""

    def __init__(self, arguments: list[str], cwd: Path, name: str = "output", **env: str) -> None:
        self.output = cwd / name
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["vae_lightning.train"])
        env = {**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1", **env}
        self.process = context.Process(target=_main, args=(arguments, str(cwd), str(self.output), env))
        self.process.start()

    def end(self, timeout: float = SLOW) -> tuple[int | None, str]:
        """Its exit code, None if it is not in time, and all that it has said."""
        self.process.join(timeout)
        code = self.process.exitcode
        self.process.kill()
        return code, self.output.read_text()


def _main(arguments: list[str], cwd: str, output: str, env: dict[str, str]) -> None:
    from vae_lightning.__main__ import main

    child.lead()
    os.chdir(cwd)
    with open(output, "ab") as file:
        child.write_to(file.fileno(), file.fileno())
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    sys.path[:0] = env.get("PYTHONPATH", "").split(os.pathsep)
    main()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a callback that does harm: `--config-dir` and `PYTHONPATH`."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "harm.py").write_text(HARM)
    (folder / "callback").mkdir()
    node = {"_target_": "harm.Harm", "seed": "${seed}", "only": None, "how": "nothing", "rank": 1}
    OmegaConf.save({"harm": node}, folder / "callback" / "harm.yaml")
    return folder


def harm(own: Path, how: str, *arguments: str) -> list[str]:
    return [f"--config-dir={own}", "callback=harm", f"callback.harm.how={how}", *arguments]


def results(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text()))


def gone(pids: list[int], seconds: float = SOON) -> bool:
    """Whether none of these processes is there any more, or soon will not be."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stats = [path.read_text() for pid in pids if (path := Path(f"/proc/{pid}/stat")).exists()]
        if all(stat.rpartition(")")[2].split()[0] == "Z" for stat in stats):  # nobody has asked yet how it ended
            return True
        time.sleep(0.05)
    return False


# ---- processes that have nothing to do with models ----------------------------------------------------------------
def work(folder: Path, how: str = "nothing") -> Any:
    """What a process does: it leaves its number, then all meet, or one of them does not come."""
    rank = places.rank()
    (folder / f"{rank}.pid").write_text(str(os.getpid()))
    print("a word of", rank, flush=True)
    dist.init_process_group("gloo")
    dist.barrier()
    if how == "nothing":
        known: list[Any] = [None, None]
        dist.all_gather_object(known, (os.getpid(), os.environ["MASTER_PORT"], os.environ["OMP_NUM_THREADS"]))
        return known
    if rank == 1:
        {
            "fail": lambda: [][0],
            "leave": lambda: os._exit(3),
            "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "hang": lambda: time.sleep(600),
        }[how]()
    dist.barrier()  # it waits for who does not come
    return None


def starts(task: Callable[[], Any]) -> None:
    """A job of a sweep, of which the processes of its run are forked."""
    child.lead()
    together(task, 2)


def refuse(kind: type[Exception]) -> None:
    raise kind("in words")


def pids(folder: Path) -> list[int]:
    """Of the two processes at work, once both have come."""
    end = time.monotonic() + SLOW
    while time.monotonic() < end:
        found = [path.read_text() for path in sorted(folder.glob("*.pid"))]
        if len(found) == 2 and all(found):
            return [int(text) for text in found]
        time.sleep(0.05)
    raise TimeoutError


def test_processes_meet_and_share_the_cores(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (a, port, threads), b = together(partial(work, tmp_path), 2)
    assert (port, threads) == b[1:]
    assert (a, b[0]) == tuple(pids(tmp_path))
    assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 2)
    assert gone([a, b[0]])
    assert capfd.readouterr().out == "a word of 0\n"
    with socket.create_server(("127.0.0.1", int(port))):  # it was theirs alone, and is free again
        pass


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("fail", "process 1 of 2: IndexError: list index out of range"),
        ("leave", "process 1 of 2: ended with exit code 3"),
        ("die", "process 1 of 2: killed by SIGKILL"),
    ],
)
def test_one_that_fails_ends_all_and_is_named(how: str, said: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(RankError) as caught:
        together(partial(work, tmp_path, how), 2)
    assert str(caught.value) == said
    assert ("IndexError" in str(caught.value.__cause__)) == (how == "fail")
    assert time.monotonic() - started < SOON
    assert gone(pids(tmp_path))


@pytest.mark.parametrize("kind", [ConfigError, NonFiniteError])
def test_what_is_said_in_words_comes_out_as_it_is(kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        together(partial(refuse, kind), 2)
    assert (type(caught.value), str(caught.value)) == (kind, "in words")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_none_outlives_who_has_started_them(number: signal.Signals, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    parent = context.Process(target=starts, args=(partial(work, tmp_path, "hang"),))
    parent.start()
    ranks = pids(tmp_path)
    os.kill(parent.pid, number)
    assert gone(ranks)
    parent.join(SOON)
    assert parent.exitcode not in (0, None)


# ---- who starts how many --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("overrides", "n"),
    [
        (["accelerator=cpu"], 1),
        (["accelerator=ddp_cpu"], 2),
        (["accelerator=ddp_cpu", "trainer.devices=3"], 3),
        (["accelerator=cpu", "trainer.devices=2"], 2),
        (["accelerator=ddp"], 4),
        (["accelerator=fsdp", "trainer.devices=2"], 2),
        (["accelerator=gpu", "trainer.devices=[0,2]"], 2),
        (["accelerator=gpu", "trainer.devices='1,2,3'"], 3),
        (["accelerator=gpu", "trainer.devices='-1'"], 4),
        (["accelerator=auto"], 1),
    ],
)
def test_as_many_as_devices_says(overrides: list[str], n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    config, _ = compose(overrides)
    assert processes(config.trainer) == n
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert processes(config.trainer) == 1


def test_nodes_are_not_ours_to_start() -> None:
    with pytest.raises(ConfigError, match=r"trainer.num_nodes=2: say on each node: torchrun --nnodes 2"):
        processes(compose(["accelerator=ddp_cpu", "trainer.num_nodes=2"])[0].trainer)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "train", "SLURM_NNODES": "1", "SLURM_NTASKS": "2"}
SRUN |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS_PER_NODE": "2"}
SRUN |= {"SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}
SBATCH = {"SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}


def task(rank: int) -> dict[str, str]:
    return {**SRUN, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Sets variables; the folder is an empty one."""
    monkeypatch.chdir(tmp_path)

    def have(*variables: dict[str, str], **more: str) -> None:
        for each in (*variables, more):
            for name, value in each.items():
                monkeypatch.setenv(name, value)

    return have


def test_torchrun_says_how_many_there_are(env: Callable[..., None]) -> None:
    counts = ["trainer.devices=2", "trainer.num_nodes=2"]
    assert expand(["seed=1"]) == ["seed=1"]
    env(TORCHRUN, RANK="0")
    assert expand(["seed=1"]) == ["seed=1", *counts]
    assert expand([*counts, "seed=1"]) == [*counts, "seed=1"]
    with pytest.raises(ConfigError, match=r"trainer.devices=4: torchrun has started 4 processes on 2 node\(s\), 2 on"):
        expand(["trainer.devices=4"])
    for sweep in ("-m", "--multirun"):
        with pytest.raises(ConfigError, match="-m: a sweep is started once, not by torchrun as 4 processes"):
            expand([sweep, "seed=1,2"])
    env(RANK="3")
    silent = ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none"]
    assert expand(["seed=1", "hydra.run.dir=here"]) == ["seed=1", *counts, *silent]


def test_a_job_of_slurm_has_a_folder_of_its_own(env: Callable[..., None], tmp_path: Path) -> None:
    env(SBATCH)
    assert place() is None
    assert expand(["seed=1"]) == ["seed=1", "hydra.run.dir=outputs/slurm/4242"]
    assert expand(["-m", "seed=1,2"])[-1] == "hydra.sweep.dir=outputs/slurm/4242"
    for own in ("hydra.run.dir=mine", "ckpt=mine", "hydra.sweep.dir=mine"):
        assert expand([own]) == [own]
    folder = tmp_path / "outputs" / "slurm" / "4242"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    status.update(folder, overrides=["seed=1"], job="4242")
    goes_on = ["hydra.run.dir=outputs/slurm/4242", "ckpt=outputs/slurm/4242"]
    assert expand(["seed=1"]) == ["seed=1", goes_on[0]]  # not put into the queue again
    assert expand(["seed=2"]) == ["seed=2"]  # the second of two commands in a job does not overwrite the first
    env(SLURM_RESTART_COUNT="1")
    assert expand(["seed=1"]) == ["seed=1", *goes_on]
    assert expand(["seed=2"]) == ["seed=2"]
    status.update(folder, overrides=["seed=1", "ckpt=outputs/slurm/4242"])
    assert expand(["seed=1"]) == ["seed=1", *goes_on]  # a second time
    assert places.requeued({"job": "4242"})
    assert not places.requeued({"job": "4241"})
    env(SLURM_ARRAY_JOB_ID="40", SLURM_ARRAY_TASK_ID="7")
    assert expand(["seed=1"]) == ["seed=1", "hydra.run.dir=outputs/slurm/40_7"]
    env(SLURM_JOB_NAME="interactive")
    assert expand(["seed=1"]) == ["seed=1"]
    env(SLURM_JOB_NAME="train", SUBMITIT_EXECUTOR="slurm")
    assert expand(["seed=1"]) == ["seed=1"]


def test_all_tasks_of_slurm_go_on_from_one_checkpoint(env: Callable[..., None], tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "slurm" / "4242"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    env(task(1), SLURM_RESTART_COUNT="1")
    assert "ckpt=outputs/slurm/4242" in expand(["seed=1"])
    assert "hydra.run.dir=." in expand(["seed=1"])
    assert "hydra.run.dir=outputs/slurm/4242" not in expand(["seed=1"])
    with pytest.raises(ConfigError, match="not by srun as 2 processes"):
        expand(["-m"])


def test_lightning_leaves_the_signals_of_slurm_alone(env: Callable[..., None], tmp_path: Path) -> None:
    env(SBATCH)
    made = trainer(tmp_path, [], [], False, accelerator="cpu")
    assert isinstance(made._accelerator_connector.cluster_environment, LightningEnvironment)
    env(task(0))
    made = trainer(tmp_path, [], [], False, accelerator="cpu", devices=2, strategy="ddp")
    environment = made._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


# ---- whole runs ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in two processes, as a user starts it."""
    cwd = tmp_path_factory.mktemp("devices")
    done = command(*QUICK, cwd=cwd, timeout=SLOW)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in cwd.iterdir()] == ["outputs"]
    (folder,) = (cwd / "outputs").glob("*/*")
    (folder / "said").write_text(done.stdout + done.stderr)
    return folder


def test_a_run_has_one_folder_and_one_voice(run: Path) -> None:
    said = (run / "said").read_text()
    for words in ("test results of the best checkpoint", "epoch 2/2", "parameters, 2 x cpu", f"everything is in {run}"):
        assert said.count(words) == 1
    assert "Warning" not in said
    assert (run / "vae_lightning.log").read_text().count("epoch 2/2") == 1
    assert {path.name for path in run.iterdir()} == {
        ".hydra", "vae_lightning.log", "status.json", "results.json", "metrics.csv", "checkpoints", "said",
    }  # fmt: skip
    known = status.read(run)
    assert (known["state"], known["epoch"]) == (status.DONE, 2)
    assert known["result"] == results(run)["test"]["loss"]


def differs(folder: Path) -> None:
    """A training for which each process was told something else."""
    rank = places.rank()
    train(*compose([*QUICK, f"loss.beta={1 + rank}", "beta=constant"]), folder)


def test_processes_that_were_told_different_things_do_not_train(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"processes 0 and 1 .* different things: loss.beta=1 and loss.beta=2"):
        together(partial(differs, tmp_path), 2)
    assert not list(tmp_path.glob("**/*.ckpt"))


def test_two_jobs_of_a_sweep_at_once_and_one_of_them_dies(own: Path, tmp_path: Path) -> None:
    arguments = harm(own, "die", "callback.harm.only=2", "hydra.launcher.n_jobs=2", "seed=1,2", *QUICK)
    code, said = Command(["-m", *arguments, "hydra.sweep.dir=sweep"], tmp_path, PYTHONPATH=str(own)).end()
    assert code == 1, said
    good, bad = (status.read(tmp_path / "sweep" / name) for name in ("0", "1"))
    assert (good["state"], good["epoch"]) == (status.DONE, 2)
    assert (bad["state"], bad["epoch"]) == (status.FAILED, 1)
    assert bad["reason"] == "RankError: process 1 of 2: killed by SIGKILL"
    assert "2 jobs" in said
    assert "process 1 of 2: killed by SIGKILL" in said
    assert (tmp_path / "sweep" / "0" / "output.log").read_text().count("epoch 2/2") == 1


def test_a_job_of_slurm_that_starts_again_goes_on(own: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        more = {"MASTER_PORT": str(free.getsockname()[1]), "PYTHONPATH": str(own)}
    arguments = harm(own, "die", *QUICK)
    tasks = [Command(arguments, tmp_path, f"{r}", **task(r), **more) for r in range(2)]
    ended = [each.end() for each in reversed(tasks)]
    assert ended[0] == (-signal.SIGKILL, "")
    assert ended[1][0] == 1
    folder = tmp_path / "outputs" / "slurm" / "4242"
    assert status.read(folder)["epoch"] == 1
    more |= {"HARMLESS": "1", "SLURM_RESTART_COUNT": "1"}
    again = [Command(arguments, tmp_path, f"again {r}", **task(r), **more) for r in range(2)]
    (first, said), (second, nothing) = (each.end() for each in again)
    assert (first, second, nothing) == (0, 0, ""), said
    assert said.count("going on after epoch 1,") == 1
    assert said.count("test results of the best checkpoint") == 1
    assert status.read(folder)["state"] == status.DONE
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "again 0", "again 1", "outputs"}


def test_submitit_puts_a_job_into_the_queue_again_and_it_goes_on(own: Path, tmp_path: Path) -> None:
    arguments = harm(own, "preempted", "callback.harm.rank=0", "callback.harm.only=2", "seed=2", *QUICK[:-1])
    arguments += ["accelerator=cpu", "hydra/launcher=submitit_local", "hydra.sweep.dir=sweep"]
    code, said = Command(["-m", *arguments], tmp_path, PYTHONPATH=str(own)).end()
    assert code == 0, said
    assert status.read(tmp_path / "sweep" / "0")["state"] == status.DONE
    assert "going on after epoch 1" in (tmp_path / "sweep" / "0" / "vae_lightning.log").read_text()


# ---- two hosts ----------------------------------------------------------------------------------------------------
def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, str, str]]]:
    """Namespace, interface and address of two hosts with a cable between them."""
    made = [(f"vae{os.getpid()}{x}", f"v{os.getpid()}{x}", f"10.77.0.{i}") for i, x in enumerate("ab", 1)]
    try:
        for space, _, _ in made:
            ip("netns", "add", space)
        (a, left, _), (b, right, _) = made
        ip("link", "add", left, "netns", a, "type", "veth", "peer", "name", right, "netns", b)
        for space, interface, address in made:
            ip("-n", space, "address", "add", f"{address}/24", "dev", interface)
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "link", "set", interface, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', None) or error}")
    else:
        yield made
    finally:
        for space, _, _ in made:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


def test_two_hosts_train_one_model(hosts: list[tuple[str, str, str]], run: Path, tmp_path: Path) -> None:
    meeting = f"{hosts[0][2]}:29500"
    rendezvous = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}"]
    started = []
    for n, (space, interface, address) in enumerate(hosts):
        torchrun = [sys.executable, "-m", "torch.distributed.run", *rendezvous, f"--local-addr={address}"]
        line = ["ip", "netns", "exec", space, *torchrun, f"--rdzv-conf=is_host={1 - n}", "-m", "vae_lightning", *QUICK]
        env = {**os.environ, "GLOO_SOCKET_IFNAME": interface, "OMP_NUM_THREADS": "1"}
        how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "process_group": 0}
        started.append(subprocess.Popen(line, cwd=tmp_path, env=env, text=True, **how))
    try:
        said = [each.communicate(timeout=SLOW)[0] for each in started]
    finally:
        for each in started:
            if each.poll() is None:
                os.killpg(each.pid, signal.SIGKILL)
    assert [each.returncode for each in started] == [0, 0], "\n".join(said)
    assert "".join(said).count("test results of the best checkpoint") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    (folder,) = (tmp_path / "outputs").glob("*/*")
    assert status.read(folder)["state"] == status.DONE
    for stage in ("val", "test"):
        assert results(folder)[stage] == pytest.approx(results(run)[stage], rel=1e-6)
