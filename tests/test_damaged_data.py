"""Every option of `data` that reads files, and every harm that can come to them: named, with what to do, left alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import command
from fuzz import cifar10_file, dsprites_file, idx_file, npy_file
from PIL import Image
from test_data import FILES
from test_sources import NOWHERE, images

from vae_lightning.data import cifar10, dsprites
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.paths import CONF

IDX = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
VICTIM = next(iter(FILES))  # of the four: the first that is read
# Where the file is that comes to harm, below the folder of the test.
PLACES = {option: f"root/{name}/raw/{VICTIM}" for option, name in IDX.items()} | {
    "cifar10": f"root/CIFAR10/{cifar10.FILE}",
    "dsprites": f"root/dsprites/{dsprites.FILE}",
    "folder": "root/a/bad.png",
    "vectors npy": "a.npy",
    "vectors csv": "a.csv",
}


def overrides(option: str, cwd: Path) -> list[str]:
    if option.startswith("vectors"):
        return ["data=vectors", f"data.source.path={cwd / PLACES[option]}"]
    mirror = [] if option == "folder" else [f"data.source.mirror={NOWHERE}"]
    return [f"data={option}", f"data.root={cwd / 'root'}", *mirror]


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes what an option reads, small and right; gives the file that will come to harm."""

    def write(option: str) -> Path:
        victim = tmp_path / PLACES[option]
        victim.parent.mkdir(parents=True, exist_ok=True)
        if option in IDX:
            for name in FILES:
                content = gzip.compress(idx_file((5, 8, 8) if "images" in name else (5,)))
                (victim.parent / name).write_bytes(content)
            known(option, victim.parent)
        elif option == "folder":
            for path in (victim, *(victim.with_name(f"{i}.png") for i in range(4))):
                Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), dtype=np.uint8)).save(path)
        elif option == "vectors csv":
            victim.write_text("a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(50)))
        else:
            files = {"cifar10": cifar10_file, "dsprites": dsprites_file}
            victim.write_bytes(files.get(option, partial(npy_file, np.random.default_rng(0).normal(size=(50, 2))))())
            monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 2)
            monkeypatch.setattr(dsprites, "VALUES", (3, 2, 2, 2, 2))
            known(option, victim.parent)
        return victim

    def known(option: str, folder: Path) -> None:
        """The files of now are taken for the right ones."""
        if option in IDX:
            md5 = [(name, hashlib.md5((folder / name).read_bytes()).hexdigest()) for name in FILES]
            monkeypatch.setattr(f"torchvision.datasets.{IDX[option]}.resources", md5)
        else:
            for module in (cifar10, dsprites):
                if (folder / module.FILE).exists():
                    content = (folder / module.FILE).read_bytes()
                    monkeypatch.setattr(module, "MD5", hashlib.md5(content).hexdigest())

    write.known = known  # type: ignore[attr-defined]
    return write


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(to: str, path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name if to == "itself" else to)


def a_flipped_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20] ^= 64
    path.write_bytes(content)


def a_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 - 1])


def unreadable(path: Path) -> None:
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("who runs this may read everything")


HARMS: dict[str, Callable[[Path], object]] = {
    "a folder": a_folder,
    "a loop": partial(a_link, "itself"),
    "a link to nothing": partial(a_link, "nowhere"),
    "empty": lambda path: path.write_bytes(b""),
    "other bytes": lambda path: path.write_bytes(b"\x89\x00\xff nonsense \xfe" * 30),
    "another kind": lambda path: path.write_bytes(b"<!doctype html><title>Sign in</title>"),
    "half": a_half,
    "a flipped bit": a_flipped_bit,
    "unreadable": unreadable,
}
SAID = {
    "a folder": "is a folder, not a file",
    "a loop": "is a link that leads nowhere",
    "a link to nothing": "is a link that leads nowhere",
    "unreadable": r"cannot be read \(Permission denied\)",
}
TO_DO = {"folder": "take it out", "vectors npy": "", "vectors csv": ""}  # what is wrong with a table is in its line
# A folder in a folder is looked into, another bit makes another number, and half a table of text is a table.
RIGHT_STILL = {
    ("folder", "a folder"),
    ("vectors npy", "a flipped bit"),
    ("vectors csv", "a flipped bit"),
    ("vectors csv", "half"),
}


def state(path: Path) -> object:
    """What is there, without following links."""
    if path.is_symlink():
        return os.readlink(path)
    return sorted(path.iterdir()) if path.is_dir() else os.stat(path).st_size


def test_every_option_that_reads_files_is_here() -> None:
    reads = {path.stem for path in (CONF / "data").glob("*.yaml")} - {"digits", "shapes"}
    assert {option.split()[0] for option in PLACES} == reads


@pytest.mark.parametrize("option", PLACES)
def test_files_are_right_before_they_come_to_harm(option: str, whole: Callable[[str], Path], tmp_path: Path) -> None:
    whole(option)
    assert images(*overrides(option, tmp_path), "data.val_size=1").n_train > 0


@pytest.mark.parametrize(("option", "harm"), [(o, h) for o in PLACES for h in HARMS if (o, h) not in RIGHT_STILL])
def test_every_harm_is_named_with_what_to_do(
    option: str, harm: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    victim = whole(option)
    HARMS[harm](victim)
    before = state(victim)
    with pytest.raises(UserError, match=SAID.get(harm)) as caught:
        images(*overrides(option, tmp_path), "data.val_size=1")
    assert not isinstance(caught.value, ConfigError)
    words = str(caught.value)
    assert words.startswith(str(victim))
    assert TO_DO.get(option, "or say data=") in words
    assert state(victim) == before
    assert not list(tmp_path.rglob(".download-*"))


@pytest.mark.parametrize("option", IDX)
@pytest.mark.parametrize(
    ("shape", "words"),
    [((5, 8), "does not begin as one of 3 dimensions"), ((4, 8, 8), "4 images and 5 labels"), ((0, 8, 8), "does not")],
)
def test_files_of_a_wrong_shape_are_named(
    option: str, shape: tuple[int, ...], words: str, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    victim = whole(option)
    victim.write_bytes(gzip.compress(idx_file(shape)))
    whole.known(option, victim.parent)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=words) as caught:
        images(*overrides(option, tmp_path), "data.val_size=1")
    assert str(victim.parent) in str(caught.value)


@pytest.mark.parametrize("option", PLACES)
def test_a_command_ends_with_one_and_says_so_in_its_status(option: str, tmp_path: Path) -> None:
    victim = tmp_path / PLACES[option]
    victim.parent.mkdir(parents=True, exist_ok=True)
    for path in (victim, *(victim.with_name(name) for name in FILES if option in IDX)):
        path.write_bytes(b"something else")
    if option == "folder":
        for i in range(4):
            Image.new("RGB", (9, 9)).save(victim.with_name(f"{i}.png"))
    likelihood = [] if option in (*IDX, "dsprites") else ["likelihood=normal"]
    done = command(*overrides(option, tmp_path), *likelihood, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(victim) in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert victim.read_bytes() == b"something else"
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["reason"].partition(": ")[0]) == ("failed", str(victim))
    left = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    own = {".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"}
    assert left == own | {"status.json", "vae_lightning.log"}  # nothing that a training would have left
