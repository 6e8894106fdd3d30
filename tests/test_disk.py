"""Disks that are full, or cannot be written: real commands, and what they leave."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from conftest import CHECKPOINTS, command
from disk_harm import IMPOSSIBLE

SMALL = ["data=digits", "data.limit=40", "trainer.max_epochs=1", "trainer.enable_progress_bar=false", "pictures=false"]
HERE = [*SMALL, "hydra.run.dir=disk/run"]
AGAIN = ["ckpt=disk/run", "trainer.max_epochs=2"]
FULL = r"free some room, then "
CLOSED = r"name a folder that can be written: hydra\.run\.dir=<folder>"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what does the harm is Linux")


def harmed(cwd: Path, how: str, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same command as `conftest.command`, under a harm of `disk_harm.py`."""
    (cwd / "disk").mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("disk_harm.py"), cwd)
    done = forked.run([sys.executable, "-m", "disk_harm", how, str(size), *arguments], cwd, forked.environment(), 120)
    if done.returncode == IMPOSSIBLE:
        pytest.skip(f"this machine does not let us: {done.stderr.strip()}")
    return done


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of an epoch in it."""
    cwd = tmp_path_factory.mktemp("begun")
    done = command(*HERE, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd


@pytest.mark.parametrize(
    ("how", "size", "file", "words"),
    [
        ("limit", 100_000, "disk/run/checkpoints/best.ckpt", f"File too large; {FULL}start again"),
        ("full", 1_000_000, "disk/run/checkpoints/best.ckpt", f"No space left on device; {FULL}start again"),
        ("full", 4096, "the run folder", f"No space left on device; {FULL}start again"),  # not even the configuration
        ("read-only", 0, "disk/run", f"Read-only file system; {CLOSED}"),
        ("nobody", 0, "disk/run", f"Permission denied; {CLOSED}"),
    ],
)
def test_a_run_that_cannot_be_written_says_which_file_and_why(
    how: str, size: int, file: str, words: str, tmp_path: Path
) -> None:
    done = harmed(tmp_path, how, size, *HERE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout
    for line in done.stderr.splitlines():  # one, but where a thread that writes fails first
        assert re.match(f"vae_lightning: .*{file}.*: {words}", line)
    left = tmp_path / ("left" if how == "full" else "disk")
    assert not [path for path in left.rglob("*") if path.suffix in (".ckpt", ".tmp")]
    for status in left.rglob("status.json"):
        assert json.loads(status.read_text())["state"] == "failed"
        assert words.partition(";")[0] in json.loads(status.read_text())["reason"]


@pytest.mark.parametrize(
    ("how", "size", "words"),
    [
        ("limit", 100_000, f"disk/run/checkpoints/best.ckpt: File too large; {FULL}go on with ckpt=.*disk/run$"),
        ("read-only", 0, f"disk/run/vae_lightning.log: Read-only file system; {CLOSED}"),
        ("nobody", 0, f"disk/run/vae_lightning.log: Permission denied; {CLOSED}"),
    ],
)
def test_earlier_checkpoints_stay_whole_and_the_run_goes_on_when_there_is_room(
    how: str, size: int, words: str, begun: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun / "disk", tmp_path / "disk")
    before = content(tmp_path / "disk" / "run" / "checkpoints")
    assert sorted(before) == CHECKPOINTS
    done = harmed(tmp_path, how, size, *AGAIN)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(words, done.stderr.strip()), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert content(tmp_path / "disk" / "run" / "checkpoints") == before
    done = command(*AGAIN, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "disk" / "run" / "results.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("size", range(8192, 90_000, 8192))
@pytest.mark.long
def test_a_disk_that_is_full_at_any_time(size: int, tmp_path: Path) -> None:
    """The status may stay `running`, where there is no room to say more; its process is dead."""
    done = harmed(tmp_path, "full", size, *HERE, "pictures=true")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(f"No space left on device; {FULL}", done.stderr)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("how", ["limit", "full"])
def test_a_job_of_a_sweep_on_a_full_disk_says_why(how: str, tmp_path: Path) -> None:
    done = harmed(tmp_path, how, 1_000_000, "-m", *SMALL, "hydra.sweep.dir=disk/sweep", "seed=1,2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for job in ("0", "1"):
        left = tmp_path / ("left" if how == "full" else "disk")
        status = json.loads((left / "sweep" / job / "status.json").read_text())
        assert status["state"] == "failed"
        assert re.search("File too large|No space left on device", status["reason"])
