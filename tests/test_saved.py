"""There is always a checkpoint that loads: saves are killed at every moment, cut off, and their files damaged."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from harm import Harm
from survival import SHORT, run

from vae_lightning import atomic
from vae_lightning.checkpoint import AtomicCheckpointIO, read_checkpoint
from vae_lightning.errors import ConfigError, NonFiniteError, UserError
from vae_lightning.resume import find_checkpoint
from vae_lightning.whole import beside, damage

MOMENTS = 22  # before and after all that one save does to files


def content(step: int) -> dict[str, Any]:
    """Small enough for one thread: those of several are not there in a forked process."""
    record = {"format": 1, "choices": {}, "config": {}, "facts": {}}
    return {"state_dict": {"w": torch.full((30_000,), float(step))}, "global_step": step, "vae_lightning": record}


def in_a_process(work: Callable[..., None], *arguments: Any) -> int:
    """The exit code of a forked process that does this work."""
    process = get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def save(path: Path, moment: int = 0) -> None:
    """A second save, killed at this moment."""
    if moment:
        Harm(signal.SIGKILL, moment).in_saves()
    AtomicCheckpointIO().save_checkpoint(content(2), path)


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize("moment", range(1, MOMENTS + 1))
def test_a_save_that_is_killed_leaves_a_whole_checkpoint(moment: int, first: bool, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    if not first:
        AtomicCheckpointIO().save_checkpoint(content(1), path)
    assert in_a_process(save, path, moment) == -signal.SIGKILL
    if first and not path.exists():
        with pytest.raises(ConfigError, match=r"no checkpoint in it"):
            find_checkpoint(tmp_path)
    else:
        found = find_checkpoint(tmp_path)
        assert (found, damage(found)) == (path, None)
        assert read_checkpoint(found)["global_step"] in ((2,) if first else (1, 2))
    atomic.sweep(path.parent)
    assert {p.name for p in path.parent.iterdir()} <= {path.name, beside(path).name}
    save(path)
    assert read_checkpoint(path)["global_step"] == 2
    assert len(beside(path).read_text().splitlines()) == 1


def test_a_save_has_so_many_moments(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert in_a_process(save, path, MOMENTS + 1) == 0
    assert in_a_process(save, path, MOMENTS) == -signal.SIGKILL


def full(path: Path, room: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    with pytest.raises(OSError, match="File too large") as error:
        AtomicCheckpointIO().save_checkpoint(content(2), path)
    assert Path(error.value.filename).name.startswith(path.name)


@pytest.mark.parametrize("room", [0, 10, 1_000, 100_000, 200_000])
def test_a_full_disk_leaves_the_old_checkpoint(room: int, tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(1), path)
    before = sorted(path.parent.iterdir())
    assert in_a_process(full, path, room) == 0
    assert read_checkpoint(path)["global_step"] == 1
    assert sorted(path.parent.iterdir()) == before


def test_the_folder_of_temporary_files_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be on another file system, from where a file is copied and not renamed; here it is not even there."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    path = tmp_path / "last.ckpt"
    save(path)
    assert damage(path) is None


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".last.ckpt.tmp").symlink_to(victim)
    save(tmp_path / "last.ckpt")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "last.ckpt").is_symlink()


def flip(path: Path, place: int) -> None:
    whole = bytearray(path.read_bytes())
    whole[place] ^= 0b100
    path.write_bytes(whole)


@pytest.mark.parametrize("known", [True, False], ids=["sha256", "zip"])
@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_is_noticed(part: float, known: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    last, best = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    AtomicCheckpointIO().save_checkpoint(content(1), best)
    AtomicCheckpointIO().save_checkpoint(content(2), last)
    flip(last, int(part * last.stat().st_size))
    if not known:
        beside(last).unlink()
    with pytest.raises(UserError, match=r"last\.ckpt: damaged, or not a checkpoint: .*best\.ckpt is whole: say that"):
        read_checkpoint(last)
    assert find_checkpoint(tmp_path) == best
    assert f"{best} IS USED" in caplog.text
    flip(best, int(part * best.stat().st_size))
    with pytest.raises(ConfigError, match=r"no whole checkpoint in it.*last\.ckpt: .*; .*best\.ckpt: "):
        find_checkpoint(tmp_path)


def test_what_was_not_finite_is_not_saved(tmp_path: Path) -> None:
    bad = content(1)
    bad["state_dict"]["w"][7] = float("nan")
    with pytest.raises(NonFiniteError, match="w is not finite after step 1"):
        AtomicCheckpointIO().save_checkpoint(bad, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_from_the_newest_whole_checkpoint_wherever_it_lies(tmp_path: Path) -> None:
    """Killed, its newest checkpoint damaged, leftovers beside it, and moved: it goes on from the other one."""
    done = run("SIGTERM@minibatch:15", *SHORT, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 143, done.stdout + done.stderr
    shutil.move(tmp_path / "run", tmp_path / "moved")
    folder = tmp_path / "moved" / "checkpoints"
    flip(folder / "last.ckpt", 5_000)
    (folder / ".last.ckpt.tmp").write_bytes(b"half")
    done = run("none", "ckpt=moved", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "last.ckpt: its SHA-256 is not the one in last.ckpt.sha256. IN ITS PLACE" in done.stderr
    assert "going on after epoch 2" in done.stdout
    assert ".last.ckpt.tmp: left half written by a process that was killed, and removed" in done.stdout
    assert not (folder / ".last.ckpt.tmp").exists()
    assert not (tmp_path / "run").exists()
    flip(folder / "best.ckpt", 5_000)
    done = run("none", "ckpt=moved", "trainer.max_epochs=5", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best.ckpt: its SHA-256 is not the one in best.ckpt.sha256; the next validation makes a new" in done.stdout
    assert damage(folder / "best.ckpt") is None


def test_a_checkpoint_names_no_file(tmp_path: Path) -> None:
    """Lightning would remove, or load, what a checkpoint from elsewhere names."""
    done = run("none", *SHORT, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert str(tmp_path) not in str(saved)
    assert os.sep + "run" not in str(saved["callbacks"])
