"""Sources of data: what they hold, exactly, and what they refuse."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_data import minibatches, serve
from torch import Tensor
from torch.distributions import MultivariateNormal

from vae_lightning.build import make
from vae_lightning.compose import compose
from vae_lightning.data import cifar10, dsprites
from vae_lightning.data.cifar10 import Cifar10
from vae_lightning.data.dsprites import DSprites
from vae_lightning.data.folder import Folder
from vae_lightning.data.images import Images
from vae_lightning.data.shapes import REACH, SIDE, Shapes
from vae_lightning.data.table import table
from vae_lightning.data.vectors import Vectors
from vae_lightning.errors import ConfigError, UserError

NOWHERE = "http://127.0.0.1:9"


def images(*overrides: str) -> Images:
    config, _ = compose(overrides)
    return make(config.data, seed=0, minibatches_per_step=16, accumulate_grad_batches=1)


class Trap:
    """Unpickling one creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


# ---- vectors --------------------------------------------------------------------------------------------------------
def test_vectors_have_the_distribution_that_is_claimed() -> None:
    vectors = Vectors(dim=5, latent_dim=2, sigma=0.5, n_train=200_000, n_test=3)
    x, p = vectors.read(None).train[0][:, 0, 0].double(), vectors.distribution()
    n, cov = len(x), p.covariance_matrix
    assert ((x.mean(0) - p.mean).abs() < 5 * (cov.diag() / n).sqrt()).all()
    error = ((cov**2 + cov.diag().outer(cov.diag())) / n).sqrt()  # of a sample covariance of normal numbers
    assert ((x.T.cov() - cov).abs() < 5 * error).all()
    w, b = vectors._weights()
    assert torch.allclose(cov, w @ w.T + 0.25 * torch.eye(5))
    assert torch.equal(p.mean, b)


@pytest.mark.parametrize("standardize", [False, True])
def test_the_exact_log_likelihood_is_that_of_what_is_served(standardize: bool) -> None:
    data = images("data=vectors", f"data.source.standardize={standardize}", "data.limit=50")
    source = Vectors()
    p, x = source.distribution(), source.read(None).train[0][:, 0, 0].double()
    scale, shift = (x.std(0, correction=0), x.mean(0)) if standardize else (torch.ones(10), torch.zeros(10))
    served = MultivariateNormal((p.mean - shift) / scale, p.covariance_matrix / scale.outer(scale))
    (batch,) = minibatches(data.test_dataloader())
    assert batch.x.shape == (50, 1, 1, 10)
    expected = served.log_prob(batch.x[:, 0, 0]).mean().item()
    assert data.describe()["exact_test_log_prob"] == pytest.approx(expected, rel=1e-4)


def test_vectors_are_labelled_by_quadrant_and_drawn_from_their_own_seed() -> None:
    vectors = Vectors(sigma=1e-4)
    (x, y), (w, b) = vectors.read(None).train, vectors._weights()
    z = (x[:, 0, 0].double() - b) @ torch.linalg.pinv(w).T
    clear = z.abs().min(1).values > 0.01
    assert torch.equal(((z > 0).long() @ torch.tensor([1, 2]))[clear], y[clear])
    assert y.unique().tolist() == [0, 1, 2, 3]
    torch.manual_seed(7)
    assert torch.equal(Vectors(sigma=1e-4, n_test=5).read(None).train[0], x)
    assert not torch.equal(Vectors(sigma=1e-4, seed=1).read(None).train[0], x)
    assert images("data=vectors", "data.source.latent_dim=1").n_classes == 2


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_a_table_is_served_as_it_is(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).normal(300, 20, (50, 3)).astype(np.float32)
    values[:, 2] = 7
    path = tmp_path / f"numbers.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    else:
        np.savetxt(path, values, delimiter=",", header="a,b,c", comments="")
    data = images("data=vectors", f"data.source.path={path}", "data.val_size=5")
    assert (data.name, data.shape, data.n_train, data.n_classes) == ("numbers", (1, 1, 3), 40, 1)
    (batch,) = minibatches(data.test_dataloader())
    assert torch.equal(batch.x[:, 0, 0].float(), torch.from_numpy(values[45:]))
    assert "exact_test_log_prob" not in data.describe()
    raw = Vectors(path=str(path), standardize=True, test_size=10).read(None)
    x = raw.train[0][:, 0, 0].double()
    assert len(x) == 40
    assert torch.allclose(x.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("a.txt", "1,2", "a table is a .npy or a .csv file"),
        ("a.csv", None, "there is no such file"),
        ("a.csv", "", "holds no rows of numbers"),
        ("a.csv", "a,b\n", "holds no rows of numbers"),
        ("a.csv", "a,b\n1,2\n3,x\n", "line 3: 'x' is not a number"),
        ("a.csv", "1,2\n3,\n", "line 2: '' is not a number"),
        ("a.csv", "a,b\n1,2\n\n3\n", "line 4 has 1 values, and line 2 has 2"),
        ("a.csv", "a;b\n1;2\n", "line 2: '1;2' is not a number"),
        ("a.csv", "1,2\n3,nan\n-inf,2\n", "row 2 of the numbers holds NaN or infinity (and 1 more rows)"),
        ("a.csv", "1,2\n3,1e39\n", "row 2 of the numbers holds NaN or infinity; take such rows out"),
        ("a.csv", b"\xff\xfe1,2", "can't decode byte"),
        ("a.npy", b"<html>", "is not a .npy file"),
        ("a.npy", np.zeros(3), "a table has rows and columns, shape (N, D), not (3,)"),
        ("a.npy", np.zeros((3, 0)), "a table has rows and columns, shape (N, D), not (3, 0)"),
        ("a.npy", np.array([["1", "2"]]), "holds <U1, not numbers"),
        ("a.npy", np.array([[1, np.nan]]), "row 1 of the numbers"),
    ],
)
def test_what_is_no_table_is_refused_in_words(tmp_path: Path, file: str, content: object, words: str) -> None:
    path = tmp_path / file
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        table(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_truncated_table_and_one_without_enough_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((20, 2)))
    for size in ("19", "0", "1.0"):
        with pytest.raises(ConfigError, match=f"data.source.test_size={size}: there are 20 rows in all"):
            images("data=vectors", f"data.source.path={path}", f"data.source.test_size={size}")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=str(path)):
        table(path)


def test_a_pickle_in_a_table_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path, sprung = tmp_path / "a.npy", tmp_path / "sprung"
    np.save(path, np.array([[Trap(sprung)]]), allow_pickle=True)
    with pytest.raises(UserError, match=r"holds Python objects \(a pickle\), which could run code"):
        table(path)
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(UserError, match=r"is not a .npy file"):
        table(path)
    assert not sprung.exists()


@pytest.mark.parametrize("how", ["dynamic", "static", "threshold"])
def test_numbers_that_are_no_pixels_are_not_binarised(how: str) -> None:
    with pytest.raises(ConfigError, match=f"data.binarize={how}: these are no pixels; say data.binarize=none"):
        images("data=vectors", f"data.binarize={how}")


# ---- shapes ---------------------------------------------------------------------------------------------------------
def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 1, H, W) -> area (N,), centre of mass (N, 2) and covariance of the pixels (N, 2, 2); x right, y up."""
    p = x[:, 0].double() / 255
    at = torch.arange(x.shape[-1]) + 0.5
    area = p.sum((1, 2))
    centre = torch.stack([(p.sum(1) * at).sum(1), (p.sum(2) * at).sum(1)], 1) / area[:, None]
    dx, dy = at - centre[:, :1], centre[:, 1:] - at
    xy = torch.einsum("nij,ni,nj->n", p, dy, dx)
    xx, yy = (p.sum(1) * dx**2).sum(1), (p.sum(2) * dy**2).sum(1)
    return area, centre, torch.stack([xx, xy, xy, yy], 1).reshape(-1, 2, 2) / area[:, None, None]


def test_shapes_show_every_combination_of_their_factors_once() -> None:
    data = images("data=shapes", "data.source.xs=3", "data.source.ys=4")
    assert data.factor_names == ("shape", "scale", "orientation", "x", "y")
    assert data.factors is not None
    everything = torch.cat(list(data.factors.values()))
    n = 3 * 4 * 8 * 3 * 4
    assert everything.unique(dim=0).shape == everything.shape == (n, 5)
    assert (everything.min(0).values.tolist(), everything.max(0).values.tolist()) == ([0] * 5, [2, 3, 7, 2, 3])
    assert data.describe()["n_test"] == n // 10
    assert data.describe()["n_val"] == (n - n // 10) // 10
    for split, known in data.factors.items():
        x, y = getattr(data, split)
        assert len(x) == len(known)
        assert torch.equal(y, known[:, 0])
        assert x.unique().tolist() == [0, 255]


def test_shapes_look_as_their_factors_say() -> None:
    source = Shapes(size=64, scales=2, orientations=12, xs=3, ys=4)
    raw = source.read(None)
    assert raw.factors is not None
    x, known = torch.cat([raw.train[0], raw.test[0]]), torch.cat(raw.factors)
    shape, side, angle, *_ = truth = source.truth(known).double().T
    area, centre, cov = moments(x)
    assert ((area.sqrt() - side).abs() < 0.15).all()  # pixels
    assert ((centre - truth[3:].T).abs() < 0.1).all()
    axis = torch.linalg.eigh(cov).eigenvectors[:, :, -1]  # the long one
    along = (axis[:, 0] * angle.cos() + axis[:, 1] * angle.sin()).abs()
    assert along[shape == 1].min() > 0.999
    tip = cov[shape == 2]  # a heart is longer to the left and right of its tip than along it
    down = torch.stack([angle.sin(), -angle.cos()], 1)[shape == 2]
    assert (torch.einsum("ni,nij,nj->n", down, tip, down) < tip.diagonal(dim1=1, dim2=2).sum(1) / 2).all()
    border = torch.cat([x[..., 0], x[..., -1], x[..., 0, :], x[..., -1, :]], -1)
    assert border.max() == 0  # every sprite is whole
    assert x[known[:, 2] == 0].unique(dim=0).shape[0] == (known[:, 2] == 0).sum()


def test_a_heart_points_down() -> None:
    source = Shapes(size=64, scales=1, orientations=1, xs=1, ys=1, test_size=1)
    (heart,) = source.draw(*source.truth(torch.tensor([[2, 0, 0, 0, 0]])).T.reshape(5, 1, 1, 1))[:, 0]
    rows = heart[0].nonzero()[:, 0]
    top, bottom = (heart[0, row].nonzero().numel() for row in (rows.min() + 2, rows.max() - 2))
    assert top > 1.5 * bottom
    assert torch.equal(heart, heart.flip(-1))
    reach = (torch.cartesian_prod(torch.arange(64) + 0.5, torch.arange(64) + 0.5)[heart.flatten() > 0] - 32).norm(dim=1)
    assert reach.max() < REACH * SIDE * 0.75 * 64 + 1


def test_shapes_are_always_the_same_and_too_small_ones_are_refused() -> None:
    one, other = (Shapes(xs=2, ys=2, test_size=n) for n in (10, 0.1))
    torch.manual_seed(5)
    assert torch.equal(one.read(None).test[0], Shapes(xs=2, ys=2, test_size=10).read(None).test[0])
    assert len(other.read(None).test[0]) == 38
    with pytest.raises(ConfigError, match=r"data.source.size=4: at least 8 pixels"):
        images("data=shapes", "data.source.size=4")
    with pytest.raises(ConfigError, match=r"data.source.test_size=0: there are 384 images in all"):
        Shapes(xs=2, ys=2, test_size=0).read(None)


# ---- files that are downloaded --------------------------------------------------------------------------------------
Files = dict[str, np.ndarray]


def known_file(monkeypatch: pytest.MonkeyPatch, module: object, path: Path, content: bytes) -> bytes:
    """Write `content`, and have its MD5 taken for the right one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    monkeypatch.setattr(module, "MD5", hashlib.md5(content).hexdigest())
    return content


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **arrays)
    return file.getvalue()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Files:
    """What is in the file of dSprites, with fewer values of each factor."""
    values = (3, 2, 4, 2, 3)
    monkeypatch.setattr(dsprites, "VALUES", values)
    imgs = np.random.default_rng(0).integers(0, 2, (math.prod(values), 64, 64), dtype=np.uint8)
    return {"imgs": imgs, "latents_classes": np.indices((1, *values)).reshape(6, -1).T}


def test_dsprites_is_downloaded_and_its_metadata_is_never_opened(
    few: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sprung = tmp_path / "sprung"
    content = npz(**few, metadata=np.array(Trap(sprung), dtype=object))
    known_file(monkeypatch, dsprites, tmp_path / "served" / dsprites.FILE, content)
    with serve(tmp_path / "served") as url:
        raw = DSprites(url, test_size=14).read(tmp_path / "root")
    assert (tmp_path / "root" / "dsprites" / dsprites.FILE).read_bytes() == content
    again = DSprites(NOWHERE, test_size=14).read(tmp_path / "root")
    assert not sprung.exists()
    assert torch.equal(raw.train[0], again.train[0])
    assert raw.factors is not None
    assert (raw.train[0].shape, raw.test[0].shape) == ((130, 1, 64, 64), (14, 1, 64, 64))
    for (x, y), known in zip((raw.train, raw.test), raw.factors, strict=True):
        place = np.ravel_multi_index(tuple(known.T.numpy()), (3, 2, 4, 2, 3))
        assert np.array_equal(x[:, 0].numpy(), few["imgs"][place] * 255)
        assert torch.equal(y, known[:, 0])
    assert len(torch.cat(raw.factors).unique(dim=0)) == 144
    assert len(raw.factor_names) == known.shape[1] == 5
    data = images("data=dsprites", f"data.root={tmp_path / 'root'}", "data.labelled=30")
    assert data.describe()["n_val"] == 13
    assert data.train[1][data.train[1] >= 0].bincount().tolist() == [10, 10, 10]


@pytest.mark.parametrize("harm", ["pickled images", "shape", "values", "factors", "missing", "not a zip", "truncated"])
def test_a_file_that_is_not_dsprites_is_refused_and_runs_nothing(
    few: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    sprung = tmp_path / "sprung"
    changed = {
        "pickled images": {"imgs": np.array([Trap(sprung)], dtype=object)},
        "shape": {"imgs": few["imgs"][:-1]},
        "values": {"imgs": few["imgs"] * 255},
        "factors": {"latents_classes": few["latents_classes"][::-1]},
    }
    content = npz(**{**few, **changed.get(harm, {})})
    if harm == "missing":
        content = npz(imgs=few["imgs"])
    elif harm == "not a zip":
        content = pickle.dumps(Trap(sprung))
    elif harm == "truncated":
        content = content[:-100]
    path = tmp_path / "dsprites" / dsprites.FILE
    known_file(monkeypatch, dsprites, path, content)
    with pytest.raises(UserError) as caught:
        DSprites(NOWHERE).read(tmp_path)
    assert str(caught.value).startswith(f"{path}: not the file of dSprites (")
    assert not sprung.exists()


def cifar(changed: dict[str, bytes | None] | None = None) -> bytes:
    """The archive of CIFAR-10 with 20 images a file."""
    rng, file = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            rows = rng.integers(0, 256, (20, 3073), dtype=np.uint8)
            rows[:, 0] = np.arange(20) % 10
            content = {name: rows.tobytes(), **(changed or {})}[name]
            if content is not None:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def test_cifar10_is_downloaded_and_read_without_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 20)
    content = known_file(monkeypatch, cifar10, tmp_path / "served" / cifar10.FILE, cifar())
    with serve(tmp_path / "served") as url:
        raw = Cifar10(url).read(tmp_path / "root")
    kept = [path for path in (tmp_path / "root").rglob("[!.]*") if path.is_file()]
    assert kept == [tmp_path / "root" / "CIFAR10" / cifar10.FILE]
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 256, (20, 3073), dtype=np.uint8) for _ in range(6)]
    train = np.concatenate(rows[:5])
    assert raw.train[0].shape == (100, 3, 32, 32)
    assert np.array_equal(raw.train[0].flatten(1).numpy(), train[:, 1:])
    assert np.array_equal(raw.test[0].flatten(1).numpy(), rows[5][:, 1:])
    assert raw.train[0][3, 2, 1, 5] == train[3, 1 + 2 * 1024 + 1 * 32 + 5]  # blue, second row, sixth pixel
    assert raw.train[1].bincount().tolist() == [10] * 10
    assert kept[0].read_bytes() == content
    data = images("data=cifar10", f"data.root={tmp_path / 'root'}", "data.val_size=10")
    assert (data.shape, data.n_classes, data.n_train) == ((3, 32, 32), 10, 90)


@pytest.mark.parametrize("harm", ["short", "label", "missing", "not a tar", "truncated"])
def test_a_file_that_is_not_cifar10_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 20)
    changed = {"short": bytes(3073 * 19), "label": b"\x0a" * (3073 * 20), "missing": None}
    content = cifar({"data_batch_3.bin": changed[harm]} if harm in changed else None)
    content = {"not a tar": b"something else", "truncated": content[:2000]}.get(harm, content)
    path = tmp_path / "CIFAR10" / cifar10.FILE
    known_file(monkeypatch, cifar10, path, content)
    with pytest.raises(UserError) as caught:
        Cifar10(NOWHERE).read(tmp_path)
    assert str(caught.value).startswith(f"{path}: not the binary version of CIFAR-10 (")


@pytest.mark.parametrize("where", ["on the server", "on the disk"])
@pytest.mark.parametrize("harm", ["truncated", "web page"])
@pytest.mark.parametrize(
    ("source", "file", "folder", "instead"),
    [(DSprites, dsprites.FILE, "dsprites", "shapes"), (Cifar10, cifar10.FILE, "CIFAR10", "digits")],
)
def test_a_damaged_download_is_named_and_never_used(
    source: type[DSprites] | type[Cifar10], file: str, folder: str, instead: str, where: str, harm: str, tmp_path: Path
) -> None:
    content = {"truncated": b"PK\x03\x04", "web page": b"<!doctype html><title>Sign in</title>"}[harm]
    path = tmp_path / "root" / folder / file
    victim = path if where == "on the disk" else tmp_path / "served" / file
    victim.parent.mkdir(parents=True)
    victim.write_bytes(content)
    (tmp_path / "served").mkdir(exist_ok=True)
    with serve(tmp_path / "served") as url, pytest.raises(UserError) as caught:
        source(url).read(tmp_path / "root")
    words = str(caught.value)
    assert str(path) in words
    assert f"say data={instead}" in words
    assert ("is a web page" if harm == "web page" else "is damaged: 4 bytes with MD5") in words
    assert path.exists() == (where == "on the disk")


# ---- a folder of images ---------------------------------------------------------------------------------------------
@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixteen images of one colour each in the folders a and b, of several sizes and kinds."""
    root = tmp_path / "pictures"
    for i in range(16):
        path = root / "ab"[i % 2] / ("deep" if i % 4 == 0 else "") / f"{i}{['.png', '.bmp', '.PNG', '.gif'][i % 4]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 30), (10 * i, 0, 255)).save(path)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.png").write_text("no image")
    (root / "a" / "._0.png").write_text("no image")
    return root


def test_a_folder_of_images_is_read_whole_and_labelled_by_its_folders(pictures: Path) -> None:
    raw = Folder(size=8, test_size=0.25).read(pictures)
    assert (raw.train[0].shape, raw.test[0].shape) == ((12, 3, 8, 8), (4, 3, 8, 8))
    x, y = (torch.cat(parts) for parts in zip(raw.train, raw.test, strict=True))
    assert x[:, 1].max() == 0
    assert x[:, 2].min() == 255
    colours = {i: x[i, 0].unique().item() for i in range(16)}  # one each: the middle of each image
    assert sorted(colours.values()) == [10 * i for i in range(16)]
    assert [label.item() for label in y] == [colours[i] // 10 % 2 for i in range(16)]
    assert torch.equal(Folder(size=8, test_size=4).read(pictures).test[0], raw.test[0])
    data = images("data=folder", f"data.root={pictures}", "data.source.channels=1", "data.source.size=4")
    assert (data.shape, data.n_classes, data.n_train) == ((1, 4, 4), 2, 14)


def test_images_beside_the_folders_have_a_label_of_their_own(pictures: Path) -> None:
    Image.new("L", (9, 9), 77).save(pictures / "alone.png")
    raw = Folder(size=4, channels=1).read(pictures)
    x, y = (torch.cat(parts) for parts in zip(raw.train, raw.test, strict=True))
    assert y.bincount().tolist() == [1, 8, 8]
    assert x[y == 0].unique().tolist() == [77]
    flat = Folder(size=4).read(pictures / "b")
    assert torch.cat([flat.train[1], flat.test[1]]).tolist() == [0] * 8


def test_the_middle_square_is_resized_turned_and_put_on_black(tmp_path: Path) -> None:
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 10:20] = 200  # the middle square
    Image.fromarray(wide).save(tmp_path / "0.png")
    turned = Image.fromarray(np.repeat(np.array([[0], [255]], dtype=np.uint8), 20, 1).repeat(10, 0))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "1.png", exif=exif)
    Image.new("RGBA", (20, 20), (255, 255, 255, 0)).save(tmp_path / "2.png")
    Image.fromarray(np.full((20, 20), 0x8000, dtype=np.uint16)).save(tmp_path / "3.png")
    Image.new("P", (20, 20), 5).save(tmp_path / "4.png", transparency=5)
    large = Image.fromarray(np.linspace(0, 255, 800, dtype=np.uint8)[None].repeat(800, 0))
    large.save(tmp_path / "5.jpg", quality=95)
    raw = Folder(size=4, channels=1, test_size=1).read(tmp_path)
    train, test = torch.randperm(6, generator=torch.Generator().manual_seed(0)).split([1, 5])[::-1]
    x = torch.empty(6, 4, 4, dtype=torch.uint8)
    x[train.sort().values], x[test] = raw.train[0][:, 0], raw.test[0][:, 0]
    assert (x[0] == 200).all()
    assert (x[1, 0] > 200).all()
    assert (x[1, 3] < 50).all()
    assert (x[2] == 0).all()
    assert (x[3] == 0x80).all()
    assert (x[4] == 0).all()
    assert torch.allclose(x[5].double(), torch.tensor([32.0, 96, 160, 223]).expand(4, 4), atol=6)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("text", "bad.png: is no PNG, JPEG, WebP, BMP or GIF image, whatever its name says; take it out"),
        ("truncated", "bad.png: cannot be read (image file is truncated"),
        ("tiff", "bad.png: is no PNG, JPEG, WebP, BMP or GIF image"),
        ("bomb", "bad.png: has more than 4,000 pixels, where PIL suspects an attack; make it smaller or take it out"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, harm: str, words: str
) -> None:
    bad, noise = pictures / "a" / "bad.png", np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    if harm == "text":
        bad.write_text("no image")
    else:
        Image.fromarray(noise).save(bad, format="TIFF" if harm == "tiff" else "PNG")
    if harm == "truncated":
        bad.write_bytes(bad.read_bytes()[:4000])
    if harm == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(UserError) as caught:
        Folder(size=8).read(pictures)
    assert str(pictures / "a") in str(caught.value)
    assert words in str(caught.value)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data=folder: say where the images are, data.root=<folder>"):
        images("data=folder")
    with pytest.raises(ConfigError, match=r"nowhere: there is no such folder"):
        images("data=folder", f"data.root={tmp_path / 'nowhere'}")
    with pytest.raises(ConfigError, match=r"there are 0 images \(.bmp, .gif, .jpeg, .jpg, .png, .webp\) in it"):
        images("data=folder", f"data.root={tmp_path}")
