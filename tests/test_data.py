"""Data: what is served, and what happens to files that are not as they should be."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits
from torch import Tensor

from vae_lightning.build import make
from vae_lightning.compose import compose
from vae_lightning.data import loader as loader_module
from vae_lightning.data.digits import Digits
from vae_lightning.data.idx import Idx
from vae_lightning.data.images import Images
from vae_lightning.data.loader import MemoryLoader, Minibatch
from vae_lightning.errors import ConfigError, UserError

FILES = {
    "train-images-idx3-ubyte.gz": (60, 28, 28),
    "train-labels-idx1-ubyte.gz": (60,),
    "t10k-images-idx3-ubyte.gz": (10, 28, 28),
    "t10k-labels-idx1-ubyte.gz": (10,),
}


def images(*overrides: str) -> Images:
    config, _ = compose(["data=digits", *overrides])
    return make(config.data, seed=0, minibatches_per_step=16, accumulate_grad_batches=1)


def minibatches(loader: MemoryLoader) -> list[Minibatch]:
    return [batch for chunk in loader for batch in chunk]


# ---- what is served -----------------------------------------------------------------------------------------------
def test_mnist_is_mnist(mnist: str) -> None:
    config, _ = compose([f"data.root={mnist}", "data.binarize=none"])
    data = make(config.data, seed=0, minibatches_per_step=16, accumulate_grad_batches=1)
    said = data.describe()
    assert said.pop("sha256") == data.sha256
    assert said == {
        "name": "MNIST", "shape": [1, 28, 28], "binarize": "none", "n_train": 55000, "n_val": 5000, "n_test": 10000,
    }  # fmt: skip
    everything = torch.cat([data.train[0], data.val[0]])
    assert everything.double().mean().item() / 255 == pytest.approx(0.1306604762738429)
    assert torch.cat([data.train[1], data.val[1]]).bincount().tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert data.test[1][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert not list(Path(mnist).rglob("*.part"))


@pytest.mark.parametrize("how", ["dynamic", "static"])
def test_binary_images_have_the_mean_of_the_grey_ones(how: str) -> None:
    data, grey = images(f"data.binarize={how}"), images("data.binarize=none")
    loader = data.train_dataloader()
    total, n = torch.zeros(1, 28, 28), 0
    for epoch in range(20 if how == "dynamic" else 1):
        loader.set_epoch(epoch)
        for batch in minibatches(loader):
            assert batch.x.unique().tolist() == [0.0, 1.0]
            total, n = total + batch.x.sum(0), n + len(batch.x)
    p = grey.train[0] / 255
    expected, error = p.mean(0), (p * (1 - p)).mean(0).div(n).sqrt()
    assert ((total / n - expected).abs() <= 5 * error + 1e-12).all()
    assert (total / n - expected).abs().mean() > 0  # drawn, not copied


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("how", ["dynamic", "static", "threshold", "none"])
def test_validation_and_test_images_are_always_the_same(how: str, split: str) -> None:
    first, second = (images(f"data.binarize={how}", f"data.limit={n}") for n in (200, 200))
    (x, y), (x2, y2) = getattr(first, split), getattr(second, split)
    assert torch.equal(x, x2)
    assert torch.equal(y, y2)
    assert (how == "none") == (len(x.unique()) > 2)
    if how == "threshold":
        assert torch.equal(x > 0, getattr(images("data.binarize=none", "data.limit=200"), split)[0] > 127)


def test_dynamic_pixels_change_with_epoch_and_seed_only() -> None:
    data = images()

    def epoch(number: int, seed: int = 0, chunk: int = 16) -> Tensor:
        loader = MemoryLoader(*data.train, 50, shuffle=False, dynamic=True, seed=seed, chunk=chunk)
        loader.set_epoch(number)
        return torch.cat([batch.x for batch in minibatches(loader)])

    assert torch.equal(epoch(0), epoch(0, chunk=3))
    assert not torch.equal(epoch(0), epoch(1))
    assert not torch.equal(epoch(0), epoch(0, seed=1))


def test_the_split_depends_on_its_own_seed_only() -> None:
    def split(*overrides: str) -> Tensor:
        return images("data.binarize=none", *overrides).val[0]

    assert torch.equal(split(), split("seed=5", "data.batch_size=7"))
    assert not torch.equal(split(), split("data.split_seed=1"))
    everything = images("data.binarize=none")
    known = {hash(x.numpy().tobytes()) for x in everything.train[0]}
    leaked = [x for x in everything.val[0] if hash(x.numpy().tobytes()) in known]
    assert not leaked


def test_limit_and_pad() -> None:
    data = images("data.limit=7", "data.pad=32", "data.binarize=none")
    assert data.train[0].shape == data.val[0].shape == data.test[0].shape == (7, 1, 32, 32)
    assert data.shape == (1, 32, 32)
    assert data.train[0][:, :, :2].sum() == data.train[0][..., -2:].sum() == 0
    assert torch.equal(data.train[0][..., 2:-2, 2:-2], images("data.limit=7", "data.binarize=none").train[0])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.val_size=1500", "data.val_size=1500: between 1 and 1499 of the 1500 training images"),
        ("data.pad=20", "data.pad=20: the images have 28x28 pixels, and none are cut off"),
        ("data.val_size=1.0", "data.val_size=1.0: between 1 and 1499 of the 1500 training images"),
        ("data.val_size=0", "data.val_size=0: between 1 and 1499 of the 1500 training images"),
        ("data.labelled=1301", "data.labelled=1301: there are 1300 training images"),
        ("data.source.test_size=1797", "data.source.test_size=1797: there are 1797 images in all"),
    ],
)
def test_sizes_that_cannot_be(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        images(override)


@pytest.mark.parametrize(("size", "n_val"), [("0.1", 150), ("0.0001", 1), ("0.29", 435), ("1", 1), ("700", 700)])
def test_the_validation_set_is_a_part_or_a_count(size: str, n_val: int) -> None:
    data = images(f"data.val_size={size}")
    assert (len(data.val[0]), data.n_train) == (n_val, 1500 - n_val)


@pytest.mark.parametrize("n", [1, 10, 100, 107, 1300])
def test_labels_are_kept_equally_for_all_classes(n: int) -> None:
    full, data = images(), images(f"data.labelled={n}")
    kept = data.train[1] >= 0
    assert kept.sum() == n == data.describe()["n_labelled"]
    assert set(data.train[1][~kept].tolist()) <= {-1}
    assert torch.equal(data.train[1][kept], full.train[1][kept])
    counts = data.train[1][kept].bincount(minlength=10)
    if n < 1300:  # there are enough of each class
        assert counts.max() - counts.min() == (n % 10 > 0)
    for split in ("val", "test"):
        assert all(map(torch.equal, getattr(data, split), getattr(full, split)))
    assert torch.equal(data.train[0], full.train[0])
    assert data.n_classes == 10


def test_which_labels_are_kept_depends_on_the_split_seed_only() -> None:
    def labels(*overrides: str) -> Tensor:
        return images("data.labelled=100", *overrides).train[1]

    assert torch.equal(labels(), labels("seed=5", "data.batch_size=7"))
    assert not torch.equal(labels(), labels("data.split_seed=1"))


def test_pixels_are_divided_by_255_and_floats_are_served_as_they_are() -> None:
    pixels = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1) * 51
    floats = torch.tensor([-3.0, 1e6, 0.5, 255, 0, 7], dtype=torch.float32).reshape(6, 1, 1, 1)
    (one,), (other,) = (minibatches(MemoryLoader(x, torch.arange(6), 6)) for x in (pixels, floats))
    assert torch.equal(one.x, pixels / 255)
    assert torch.equal(other.x, floats.double())
    assert one.x.dtype == other.x.dtype == torch.get_default_dtype()


# ---- the loader -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_image_is_seen_once_an_epoch_and_counts_alike(chunk: int, world: int, accumulate: int) -> None:
    n, size = 31, 10
    x, y = torch.zeros(n, 1, 1, 1, dtype=torch.uint8), torch.arange(n)
    loaders = [
        MemoryLoader(x, y, size, shuffle=True, chunk=chunk, accumulate=accumulate, rank=r, world=world)
        for r in range(world)
    ]
    ranks = [minibatches(loader) for loader in loaders]
    assert {len(loader) for loader in loaders} == {len(list(loaders[0]))}
    seen = torch.cat([batch.y[: batch.size] for batches in ranks for batch in batches])
    assert sorted(seen.tolist()) == list(range(n))
    group = 0.0
    for together in zip(*ranks, strict=True):
        assert all(len(batch.x) > 0 for batch in together)
        # DDP averages over ranks: each image must weigh one over the images of the optimiser's step.
        group += sum(batch.weight for batch in together) / world
        if together[0].steps:
            assert group == pytest.approx(1.0)
            group = 0.0
    assert ranks[0][-1].steps


def test_order_is_a_function_of_seed_and_epoch_and_resumes_anywhere() -> None:
    x, y = torch.zeros(40, 1, 1, 1, dtype=torch.uint8), torch.arange(40)

    def loader(seed: int = 0, chunk: int = 2) -> MemoryLoader:
        return MemoryLoader(x, y, 4, shuffle=True, seed=seed, chunk=chunk)

    def labels(which: MemoryLoader, epoch: int) -> list[int]:
        which.set_epoch(epoch)
        return torch.cat([batch.y for batch in minibatches(which)]).tolist()

    assert labels(loader(), 3) == labels(loader(chunk=7), 3)
    assert labels(loader(), 3) != labels(loader(), 4) != labels(loader(seed=1), 4)
    one = loader()
    one.set_epoch(3)
    iterator = iter(one)
    begun = [batch.y for _ in range(3) for batch in next(iterator)]
    other = loader()
    other.load_state_dict(one.state_dict())
    other.set_epoch(3)
    rest = [batch.y for batch in minibatches(other)]
    assert torch.cat(begun + rest).tolist() == labels(loader(), 3)
    other.set_epoch(4)
    assert torch.cat([b.y for b in minibatches(other)]).tolist() == labels(loader(), 4)


def test_digits_are_those_of_scikit_learn() -> None:
    theirs, raw = load_digits(), Digits(size=8, test_size=300).read(None)
    grey, labels = (torch.cat(part) for part in zip(raw.train, raw.test, strict=True))
    assert torch.equal(grey.squeeze(1), (torch.from_numpy(theirs.images) / 16 * 255).round().to(torch.uint8))
    assert torch.equal(labels, torch.from_numpy(theirs.target).long())


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """A web server on loopback for the files in `folder`; its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# ---- files ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A small stand-in for the four files, on a server on loopback; the MD5s are those of the stand-in."""
    folder = tmp_path / "served"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in FILES.items():
        head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4) for n in shape)
        body = rng.integers(0, 10 if len(shape) == 1 else 256, shape, dtype=np.uint8).tobytes()
        (folder / name).write_bytes(gzip.compress(head + body))
    resources = [(name, hashlib.md5((folder / name).read_bytes()).hexdigest()) for name in FILES]
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", resources)

    with serve(folder) as url:
        yield folder, url


def test_download_verifies_keeps_and_reads_again_without_the_server(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    root = tmp_path / "root"
    raw = Idx("MNIST", url).read(root)
    assert raw.train[0].shape == (60, 1, 28, 28)
    assert raw.test[1].dtype == torch.int64
    kept = root / "MNIST" / "raw"
    assert sorted(p.name for p in kept.iterdir() if not p.name.startswith(".")) == sorted(FILES)
    assert all((kept / name).read_bytes() == (folder / name).read_bytes() for name in FILES)
    again = Idx("MNIST", "http://127.0.0.1:9").read(root)
    assert torch.equal(again.train[0], raw.train[0])


def test_real_files_have_the_md5_that_torchvision_knows(mnist: str) -> None:
    raw = Idx("MNIST", "http://127.0.0.1:9").read(Path(mnist))
    assert (raw.train[0].shape, raw.test[0].shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))


@pytest.mark.parametrize("harm", ["flipped bit", "truncated", "empty", "web page"])
@pytest.mark.parametrize("where", ["on the server", "on the disk"])
def test_a_damaged_file_is_named_and_never_used(
    served: tuple[Path, str], tmp_path: Path, harm: str, where: str
) -> None:
    folder, url = served
    name, root = "t10k-images-idx3-ubyte.gz", tmp_path / "root"
    if where == "on the disk":
        Idx("MNIST", url).read(root)
    victim = (folder if where == "on the server" else root / "MNIST" / "raw") / name
    content = bytearray(victim.read_bytes())
    if harm == "flipped bit":
        content[500] ^= 4
    elif harm == "web page":
        content = bytearray(b"<!doctype html><title>Sign in</title>")
    else:
        content = content[: 700 if harm == "truncated" else 0]
    victim.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Idx("MNIST", url).read(root)
    words = str(caught.value)
    assert str(root / "MNIST" / "raw" / name) in words
    assert "data=digits" in words
    assert ("is a web page" if harm == "web page" else f"is damaged: {len(content)} bytes with MD5") in words
    if where == "on the server":
        assert f"{url}/{name}" in words
        assert not (root / "MNIST" / "raw" / name).exists()
        assert "data.root=<folder>" in words
        assert not list(root.rglob(".download-*"))
    else:
        assert "Delete the file, and it is downloaded again" in words


def test_no_network_says_where_to_put_the_files(tmp_path: Path) -> None:
    with socket.socket() as free:  # a port that nobody listens on
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError) as caught:
        Idx("FashionMNIST", url).read(tmp_path)
    words = str(caught.value)
    for expected in (url, "cannot be had", str(tmp_path / "FashionMNIST" / "raw"), *FILES, "data=digits"):
        assert expected in words


def test_every_mirror_is_tried(served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/", f"{served[1]}/"])
    assert Idx("MNIST").read(tmp_path / "root").test[0].shape == (10, 1, 28, 28)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\)\. Name a folder .*data\.root=<folder>"):
        Idx("MNIST", "http://127.0.0.1:9").read(tmp_path / "file")


def test_files_can_be_read_from_a_folder_nobody_can_write(mnist: str) -> None:
    raw = Path(mnist) / "MNIST" / "raw"
    before = sorted(p.name for p in raw.iterdir())
    Idx("MNIST", "http://127.0.0.1:9").read(Path(mnist))
    assert sorted(p.name for p in raw.iterdir()) == before


READ = """
import json, pathlib, sys
import torchvision
from vae_lightning.data.idx import Idx
url, root, resources = sys.argv[1:]
torchvision.datasets.MNIST.resources = json.loads(resources)
print(Idx("MNIST", url).read(pathlib.Path(root)).train[0].double().mean().item())
"""


def test_processes_that_start_together_do_not_collide(served: tuple[Path, str], tmp_path: Path) -> None:
    resources = json.dumps(torchvision.datasets.MNIST.resources)
    command = [sys.executable, "-c", READ, served[1], str(tmp_path / "root"), resources]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    values = {process.communicate(timeout=120)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(values) == 1


def test_a_file_that_is_no_idx_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = gzip.compress(b"something else")
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", [(n, hashlib.md5(content).hexdigest()) for n in FILES])
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match="not an IDX file of bytes"):
        Idx("MNIST").read(tmp_path)


def test_pixels_that_a_card_draws_depend_on_the_minibatch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whichever portions they are asked for; and each is 1 as often as its grey value says."""
    monkeypatch.setattr(loader_module, "DRAWN", 3 * 4 * 6)  # three minibatches at once
    grey = torch.tensor([0, 1, 51, 128, 254, 255], dtype=torch.uint8).expand(4 * 7 - 1, 1, 1, 6)

    def drawn(portions: Sequence[tuple[int, int]], epoch: int) -> Tensor:
        loader = MemoryLoader(grey, torch.zeros(len(grey)), 4, shuffle=True, dynamic=True, seed=1)
        loader.set_epoch(epoch)
        return torch.cat([loader.binary(grey[4 * first : 4 * last], first, last) for first, last in portions])

    whole = drawn([(0, 7)], 0)
    for portions in ([(i, i + 1) for i in range(7)], [(0, 2), (2, 7)], [(0, 4), (4, 5), (5, 7)]):
        assert torch.equal(drawn(portions, 0), whole)
    assert torch.equal(drawn([(4, 7)], 0), whole[16:])  # a run that goes on in the midst of an epoch
    assert not torch.equal(drawn([(0, 7)], 1), whole)
    many = torch.stack([drawn([(0, 7)], epoch) for epoch in range(400)]).mean((0, 1, 2, 3))
    p = grey[0].flatten() / 255
    assert ((many - p).abs() <= 5 * (p * (1 - p) / (400 * len(grey))).sqrt()).all()
