"""Every command in the README is run, on little data; every option is in its tables."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import forked
import pytest
import tables
import torch
from conftest import options

from vae_lightning import status

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
QUICK = ["data.limit=200", "trainer.enable_progress_bar=false"]
COMMAND = {  # of the commands that do not train: what makes them quick, and what they say
    "evaluate": (["samples=10", "images=40", "metric=[likelihood,information,reconstruction]"], "nats per image"),
    "generate": (["n=9"], ".npz"),
    "report": ([], "report.html"),
    "export": (["onnx=false"], "model.safetensors"),
}
OLD = "outputs/2026-01-31/12-00-00_000000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


SETUP = [line for line in "\n".join(blocks("bash")).splitlines() if "venv" in line]
COMMANDS = [line.split("#")[0].strip() for line in "\n".join(blocks("bash")).splitlines()]
COMMANDS = [line for line in COMMANDS if line and line not in SETUP]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, mnist: str) -> tuple[Path, dict[str, str]]:
    """A folder with the run that the README goes on with, and the variant that it adds."""
    cwd = tmp_path_factory.mktemp("readme")
    env = forked.environment(VAE_LIGHTNING_DATA=mnist)
    (cwd / "bin").mkdir()
    (cwd / "bin" / "python").symlink_to(sys.executable)
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    (cwd / "my_loss.py").write_text(next(b for b in blocks("python") if "my_loss.py" in b))
    (cwd / "my_conf" / "loss").mkdir(parents=True)
    (cwd / "my_conf" / "loss" / "squared.yaml").write_text(blocks("yaml")[0])
    first = [sys.executable, "-m", "vae_lightning", *QUICK, "trainer.max_epochs=1", f"hydra.run.dir={OLD}"]
    subprocess.run(first, cwd=cwd, env=env, check=True, capture_output=True)
    return cwd, env


@pytest.mark.parametrize("line", [line for line in COMMANDS if re.search(r"vae_lightning\.(?!explore)", line)])
def test_a_command_that_does_not_train_does_what_it_says(line: str, workplace: tuple[Path, dict[str, str]]) -> None:
    cwd, env = workplace
    quick, said = COMMAND[re.search(r"vae_lightning\.(\w+)", line)[1]]  # type: ignore[index]
    words = [w for w in shlex.split(line) if w.partition("=")[0] not in {q.partition("=")[0] for q in quick}]
    done = forked.run([*words, *quick], cwd, env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout


@pytest.mark.parametrize("line", [line for line in COMMANDS if re.search(r"vae_lightning(?!\.)", line)])
def test_a_command_does_what_it_says(line: str, workplace: tuple[Path, dict[str, str]]) -> None:
    cwd, env = workplace
    variables, words = [], shlex.split(line)
    while "=" in words[0]:
        variables.append(words.pop(0))
    env = {**env, **dict(v.split("=", 1) for v in variables)}
    plain = "=" not in line
    quick = [] if "--help" in line or "--cfg" in line else [*QUICK, *([] if plain else ["pictures=false"])]
    if quick and "ckpt=" not in line:
        quick.append("trainer.max_epochs=1")
    elif quick:
        words = [w.replace("trainer.max_epochs=40", "trainer.max_epochs=2") for w in words]
    sweep = " -m " in line.split("vae_lightning", 1)[1] or "sweep.resume=" in line
    if sweep:
        quick[0] = "data.limit=50"
    if "optuna" in line or "experiment=search" in line:
        quick += ["hydra.sweeper.n_trials=2", "model.hidden=[8]"]
    if "sweep.resume=" in line:
        folder = cwd / words[-1].removeprefix("sweep.resume=")
        first = [*words[:-1], "-m", "data=digits", "seed=1,2", *quick, f"hydra.sweep.dir={folder}"]
        assert forked.run(first, cwd, env, timeout=300).returncode == 0
        status.update(folder / "1", state="failed")
        quick = []
    done = forked.run([*words, *quick], cwd, env, timeout=300, anew=bool(variables) or len(words) == 3)
    said = done.stdout + done.stderr
    if "gpu" in line and not torch.cuda.is_available():
        assert done.returncode == 2
        assert "accelerator=gpu" in said
        return
    assert done.returncode == 0, said
    if quick or sweep:
        assert ("everything is in " if sweep else "test results of the best checkpoint") in said


@pytest.mark.parametrize("shown", blocks("text"), ids=lambda text: text.partition("\n")[0])
def test_the_mistakes_shown_are_told_so(shown: str, workplace: tuple[Path, dict[str, str]]) -> None:
    cwd, env = workplace
    command, *words = shown.strip().splitlines()
    done = forked.run(shlex.split(command)[1:], cwd, env, timeout=300)
    assert done.returncode == 2
    assert done.stderr.splitlines() == words


def test_the_python_shown_runs(workplace: tuple[Path, dict[str, str]]) -> None:
    cwd, env = workplace
    (cwd / "shown.py").write_text(blocks("python")[0] + "\nprint(images.shape, again.shape, nats.shape)\n")
    done = subprocess.run([sys.executable, "shown.py"], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "torch.Size([64, 1, 28, 28]) torch.Size([64, 1, 28, 28]) torch.Size([64])", (
        done.stderr
    )


def test_the_explorer_serves_its_page(workplace: tuple[Path, dict[str, str]]) -> None:
    pytest.importorskip("gradio", reason='pip install "vae-lightning[app]" brings gradio')
    cwd, env = workplace
    (line,) = [line for line in COMMANDS if "explore" in line]
    words = [*shlex.split(line), "port=null", "images=50"]
    with subprocess.Popen(words, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+/", said)
            assert url, said
            assert "vae_lightning" in urllib.request.urlopen(url[0], timeout=60).read().decode()
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def test_tensorboard_serves_the_runs(workplace: tuple[Path, dict[str, str]]) -> None:
    cwd, env = workplace
    (line,) = [line for line in COMMANDS if "tensorboard" in line]
    words = [*shlex.split(line), "--port", "16106", "--host", "127.0.0.1"]
    with subprocess.Popen(words, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            found = ""
            for _ in range(60):
                time.sleep(1)
                try:
                    url = "http://127.0.0.1:16106/data/plugin/scalars/tags"
                    found = urllib.request.urlopen(url, timeout=5).read().decode()
                except OSError:
                    continue
                if "val/elbo" in found:
                    break
            assert "val/elbo" in found
        finally:
            server.terminate()


def test_the_script_for_slurm_puts_its_job_back_into_the_queue(tmp_path: Path) -> None:
    (script,) = [block for block in blocks("sh") if block.startswith("#!/bin/bash")]
    said = tmp_path / "said"
    for name, does in (("srun", 'touch "$SAID.started"; sleep 60'), ("scontrol", 'echo "$*" > "$SAID"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SAID": str(said)}
    with subprocess.Popen(["bash", "-c", script], env=env, start_new_session=True) as job:
        try:
            for _ in range(300):
                if Path(f"{said}.started").exists():
                    break
                time.sleep(0.1)
            job.send_signal(signal.SIGUSR1)
            job.wait(30)
        finally:
            os.killpg(job.pid, signal.SIGKILL)
    assert said.read_text() == "requeue 7\n"


def test_the_set_up_is_two_commands_and_ci_runs_both() -> None:
    first, second = SETUP
    assert first.endswith("python -m vae_lightning data=digits")
    assert second.endswith("python -m pytest -n 2")
    ci = (REPOSITORY / ".ci" / "run").read_text()
    assert "grep 'venv/bin/activate' README.md" in ci
    assert [line for line in README.splitlines() if "venv/bin/activate" in line] == SETUP


def test_the_tables_are_those_of_the_options() -> None:
    assert tables.written(README) == README, "run `python tests/tables.py`"


def test_every_option_goes_with_another() -> None:
    """A row or a column without a tick is an option that cannot run."""
    found = re.search("<!-- combinations -->(.*)<!-- /combinations", README, re.DOTALL)[1]
    grids = [block for block in found.split("\n\n") if "|" in block]
    assert len(grids) == len(tables.GRIDS)
    for head, _, *rows in ([line.split("|")[1:-1] for line in grid.strip().splitlines()] for grid in grids):
        assert all(any("✓" in cell for cell in line) for line in [*rows, *list(zip(*rows, strict=True))[1:]]), head


@pytest.mark.parametrize("option", options())
def test_every_option_is_in_the_table(option: str) -> None:
    group, name = option.split("=")
    groups = README[README.index("<!-- groups -->") : README.index("<!-- /groups -->")]
    (row,) = [line for line in groups.splitlines() if line.startswith(f"| `{group}` |")]
    assert f"`{name}`" in row


def test_every_promise_has_a_test() -> None:
    """Beside each is the name of one that there is; those that the suite leaves out have a mark."""
    tables = re.findall(r"<!-- promises -->(.*?)<!-- /promises -->", README, re.DOTALL)
    rows = [line.split("|")[1:3] for table in tables for line in table.strip().splitlines()[2:]]
    source = "\n\n".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
    assert len(tables) == 2
    for promise, told in rows:
        names = re.findall(r"`(test_\w+)`( †)?", told)
        assert names, promise
        for name, mark in names:
            before, found, _ = source.partition(f"def {name}(")
            assert found, name
            long = "mark.long" in before.rpartition("\n\n\n")[2]
            assert not long or mark, name


def test_nothing_unexpected_lies_at_the_top() -> None:
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == {"pyproject.toml", "README.md", "LICENSE", "vae_lightning", "conf", "tests", "outputs"}
