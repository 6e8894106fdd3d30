"""A model goes out as files and comes back bit for bit; ONNX says what PyTorch says; a hub gets the very same bytes."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import onnxruntime
import pytest
import torch
from conftest import COMPANIONS, DRAW_FREE, SMALL, composed, options, ready, same
from hub_stand_in import Hub
from huggingface_hub import constants
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor
from torch.distributions import Distribution

import vae_lightning
from vae_lightning.checkpoint import GROUPS, describe, read_model
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.export import folder, hub
from vae_lightning.export.export import export, portable
from vae_lightning.export.onnx import COMPARED, convert
from vae_lightning.model.vae import VAE
from vae_lightning.paths import PACKAGE
from vae_lightning.train import train

DEFAULTS = {"posterior=normal", "prior=normal", "likelihood=bernoulli"}  # they come with model=mlp
PARTS = [option for option in options(*GROUPS) if option not in DEFAULTS]
PARTS = list({frozenset([option, *COMPANIONS.get(option, [])]): option for option in PARTS}.values())  # pairs once


def record_of(option: str, x: Tensor, c: Tensor, *overrides: str) -> dict[str, Any]:
    """What the checkpoint of `ready(option, *overrides)` would say of itself."""
    small = [] if "model=" in " ".join([option, *overrides]) else SMALL
    config, choices = composed(option, *COMPANIONS.get(option, []), *small, *overrides)
    facts = {"shape": list(x.shape[1:]), "n_train": 64, "n_classes": 10, "n_labelled": 64, "n_context": c.shape[1]}
    return describe(config, choices, facts)


@pytest.mark.parametrize("option", PARTS)
def test_every_option_comes_back_bit_for_bit(option: str, tmp_path: Path) -> None:
    model, _, x, c = ready(option)
    with torch.no_grad():
        model.train()(x[:8], c[:8], 1)  # running means move, codes follow
    model.eval()
    folder.write(tmp_path, portable(record_of(option, x, c)), model.state_dict())
    again = vae_lightning.load(tmp_path)
    assert not again.training
    assert same(again.state_dict(), model.state_dict())
    given = c[:3] if model.n_context else None
    assert torch.equal(again.encode(x[:3], given).mode, model.encode(x[:3], given).mode)
    pictures = []
    for each in (model, again):
        torch.manual_seed(1)
        pictures.append(each.sample(3, given))
    assert torch.equal(*pictures)


def test_dtypes_are_kept_and_memory_may_be_shared(tmp_path: Path) -> None:
    one = torch.randn(4, 3)
    weights = {"a": one, "b": one, "c": one.T, "d": one[1:], "e": one[:0], "f": torch.tensor(2.0).bfloat16()}
    weights |= {"g": one.half(), "h": torch.arange(3), "i": one.float(), "j": one[0].expand(5, 3)}
    folder.write(tmp_path, {"format": 1}, weights)
    _, again = folder.read(tmp_path)
    assert same(again, weights)
    assert {name: value.dtype for name, value in again.items()} == {name: v.dtype for name, v in weights.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder."""
    path = tmp_path_factory.mktemp("whole")
    model, _, x, c = ready("model=mlp")
    folder.write(path, portable(record_of("model=mlp", x, c)), model.state_dict())
    return path


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


LOOKED_UP = "${oc.create:'{_target_: pathlib.Path, path: x}'}"
TAMPERED = [
    ("config.model._target_", "pathlib.Path.touch", "names code, in a key _target_"),
    ("config.model.hidden", {"_target_": "os.system", "command": "touch canary"}, "names code, in a key _target_"),
    ("config.model.hidden", LOOKED_UP.replace("_target_", "name"), r"refers to something else"),
    ("config.condition", "${oc.env:HOME}", "refers to something else"),
    ("choices.model", "nope", "model=nope: there is no such option here; conv, dcgan"),
    ("choices.model", "../posterior/normal", r"there is no such option here"),
    ("choices.model", ["mlp"], "there is no such option here"),
    ("choices.model", None, "there is no such option here"),
    ("config.model.latent_dim", "many", r"model\.latent_dim: must be a whole number >= 1, not 'many'"),
    ("config.model.hidden", [0], r"model\.hidden: must be a list"),
    ("config.model.hidden", {"a": 1}, r"model\.hidden: there is no such key here"),
    ("config.model.depth", 3, r"model\.depth: there is no such key here"),
    ("config.model.latent_dim", 5, "its weights are not those of the model that it names"),
    ("config.model", [1], "does not say which model"),
    ("config", 3, "does not say how the model is made"),
    ("facts", None, "does not say how the model is made"),
    ("facts.shape", "abc", "says shape=abc, which cannot be"),
    ("facts.n_context", -1, "says n_context=-1, which cannot be"),
    ("format", 99, "of another version"),
    ("weights", None, "not an export of vae_lightning"),
]


@pytest.mark.parametrize(("key", "value", "words"), TAMPERED, ids=[f"{k}={v}"[:40] for k, v, _ in TAMPERED])
def test_a_tampered_configuration_is_refused_and_runs_nothing(
    key: str, value: Any, words: str, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied)
    before = sorted(copied.iterdir())
    record = json.loads((copied / "config.json").read_text())
    *path, last = key.split(".")
    node = record
    for part in path:
        node = node[part]
    node[last] = value
    (copied / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=words):
        vae_lightning.load(copied)
    assert sorted(copied.iterdir()) == before


def test_damage_is_told_in_words(copied: Path) -> None:
    config, weights = copied / "config.json", copied / "model.safetensors"
    said, content = config.read_bytes(), weights.read_bytes()
    assert vae_lightning.load(weights).latent_shape == vae_lightning.load(copied).latent_shape == (20,)
    for place in (0, 9, len(content) // 2, len(content) - 1):  # the length of the header, the header, numbers
        weights.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"model\.safetensors: damaged, or not the weights"):
            vae_lightning.load(copied)
    for half in (content[: len(content) // 2], b""):
        weights.write_bytes(half)
        with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
            vae_lightning.load(copied)
        record = json.loads(said)
        record["weights"]["sha256"] = hashlib.sha256(half).hexdigest()
        config.write_text(json.dumps(record))  # as somebody would who knows of the sum
        with pytest.raises(UserError, match="not safetensors"):
            vae_lightning.load(copied)
        config.write_bytes(said)
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: missing"):
        vae_lightning.load(copied)
    weights.write_bytes(content)
    for wrong in (said[:50], b"[" * 100_000, b"\xff", b""):
        config.write_bytes(wrong)
        with pytest.raises(UserError, match=r"config\.json: damaged, or not JSON"):
            vae_lightning.load(copied)
    config.write_text("[]")
    with pytest.raises(UserError, match="not an export of vae_lightning"):
        vae_lightning.load(copied)


def in_float32(option: str, *overrides: str) -> tuple[VAE, Tensor, Tensor]:
    """A model whose running means have moved, images and contexts."""
    Distribution.set_default_validate_args(False)  # its checks cannot be traced
    model, _, x, c = ready(option, *overrides)
    with torch.no_grad():
        model.train()(x[:16], c[:16], 1)
    return model.float().eval(), x.float(), c.float()


def run(path: Path, **inputs: Tensor) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    found = session.run(names, {name: value.numpy() for name, value in inputs.items()})
    return dict(zip(names, map(torch.from_numpy, found), strict=True))


SMALL_DCGAN = ["model.channels=[4,8]", "model.strides=[2,2]", "model.latent_dim=4"]
ONE_HOT = ["posterior=gumbel", "prior=categorical", "posterior.categories=3"]


@pytest.mark.parametrize(
    ("option", "overrides", "outputs"),
    [
        ("model=dcgan", [*SMALL_DCGAN, *ONE_HOT, "condition=label"], {"z", "mean", "stddev"}),
        ("posterior=codebook", [], {"z", "mean", "index"}),
    ],
)
@torch.no_grad()
def test_onnx_says_what_pytorch_says_for_any_number_of_images(
    option: str, overrides: list[str], outputs: set[str], tmp_path: Path
) -> None:
    model, x, c = in_float32(option, *overrides)
    parts = convert(model, x, c, tmp_path, 1e-5)
    assert [part.reason for part in parts] == ["", ""]
    assert all(0 <= part.difference < 1e-5 for part in parts)
    for n in (5, 12):  # neither traced nor compared
        assert n not in COMPARED
        given = {"c": c[-n:]} if model.n_context else {}
        q = run(tmp_path / "encoder.onnx", x=x[-n:], **given)
        assert set(q) == outputs
        wanted = model.encode(x[-n:], given.get("c"))
        for name in outputs - {"z"}:
            torch.testing.assert_close(q[name], getattr(wanted, name), atol=1e-5, rtol=1e-4)
        picture = run(tmp_path / "decoder.onnx", z=q["z"], **given)["mean"]
        torch.testing.assert_close(picture, model.reconstruct(x[-n:], given.get("c")), atol=1e-5, rtol=1e-4)
    for part in parts:
        content = (tmp_path / part.file).read_bytes()
        assert str(PACKAGE).encode() not in content  # no paths of this machine


@torch.no_grad()
def test_what_draws_at_random_has_no_decoder_and_another_weight_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, c = in_float32("model=ladder", "model.width=16", "model.latent_dims=[4,2]")
    encoder, decoder = convert(model, x, c, tmp_path, 1e-5)
    assert encoder.reason == ""
    assert "draws the latents below z at random" in decoder.reason
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]
    content = (tmp_path / "encoder.onnx").read_bytes()
    (tmp_path / "encoder.onnx").unlink()
    list(model.infer.encoder.parameters())[-1][0] += 0.01  # the bias of the first mean
    monkeypatch.setattr("vae_lightning.export.onnx.graph", lambda *_: content)
    with pytest.raises(UserError, match=r"encoder\.onnx: its numbers are up to 0\.01 from PyTorch's"):
        convert(model, x, c, tmp_path, 1e-3)
    assert not list(tmp_path.iterdir())
    assert convert(model, x, c, tmp_path, 0.02)[0].difference == pytest.approx(0.01, rel=1e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, as a training leaves it."""
    path = tmp_path_factory.mktemp("run")
    overrides = [*DRAW_FREE, "model.hidden=[16]", "trainer.max_epochs=1", f"data.root={path}"]
    train(*compose([*overrides, "accelerator=cpu", "logger=none"]), path)
    (path / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create([*overrides, "hydra.run.dir=x"]), path / ".hydra" / "overrides.yaml")
    value = {"value": 12.3456, "unit": "nats per image", "standard_error": 0.012, "note": "KL(q || p)"}
    metrics = {"likelihood": {"settings": {"samples": 5}, "values": {"nll": value}}, "other": {"skipped": "why"}}
    (path / "evaluate.json").write_text(json.dumps({"checkpoint": "best.ckpt", "metrics": metrics}))
    return path


def test_a_run_is_exported_with_a_card_that_the_hub_can_read(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("config.json", "README.md", "encoder.onnx"):
        (tmp_path / "out" / name).write_text("of an earlier export")
    export(str(trained), out=str(tmp_path / "out"), onnx=False, license="mit")
    out = tmp_path / "out"
    names = {"config.json", "model.safetensors", "README.md", "samples.png", "reconstructions.png"}
    assert {path.name for path in out.iterdir()} == names
    assert same(vae_lightning.load(out).state_dict(), vae_lightning.load(trained).state_dict())
    assert same(load_file(out / "model.safetensors"), read_model(trained)[1])  # float32, as it was trained
    text = (out / "README.md").read_text()
    assert str(trained) not in text + (out / "config.json").read_text()
    results = json.loads((trained / "results.json").read_text())["test"]
    data = huggingface_hub.ModelCard(text).data
    assert (data.license, data.library_name) == ("mit", "vae-lightning")
    assert data.datasets is None  # digits are nowhere to be downloaded
    found = {(each.metric_name, each.metric_type): each.metric_value for each in data.eval_results}
    assert found == {
        **{(f"{k}, {card_unit(k)}", k): v for k, v in results.items()},
        ("likelihood: nll, nats per image", "nll"): 12.3456,
    }
    assert f"| elbo | {results['elbo']:.2f} | nats per image |  |" in text
    assert r"| nll | 12.346 ± 0.012 | nats per image | KL(q \|\| p) |" in text
    assert "python -m vae_lightning data=digits data.binarize=threshold data.limit=96" in text
    assert "hydra" not in text
    assert text.count("](samples.png)") == text.count("](reconstructions.png)") == 1
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].replace("path/to/this/folder", str(out))
    torch.set_default_dtype(torch.float32)
    exec(example, scope := {})
    assert scope["x"].shape == (64, 1, 28, 28)


def card_unit(name: str) -> str:
    return "bits per dimension of x" if name == "bits_per_dim" else "nats per image"


def test_one_place_is_for_one_run(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out=here: that is one place for 2 runs"):
        export([str(trained), str(trained / "checkpoints" / "last.ckpt")], out="here")
    with pytest.raises(ConfigError, match="push=a/b/c: no name for a repository"):
        export(str(trained), push="a/b/c")
    (tmp_path / "README.md").touch()
    with pytest.raises(ConfigError, match=r"README\.md: File exists"):
        export(str(trained), out=str(tmp_path / "README.md"), onnx=False)
    with pytest.raises(ConfigError, match=r"has a README\.md that is no model card; name another folder"):
        export(str(trained), out=str(tmp_path), onnx=False)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, trained: Path, tmp_path: Path) -> None:
    for package in ("onnxruntime", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r'onnxruntime.*pip install "vae-lightning\[export\]", or onnx=false'):
        export(str(trained), out=str(tmp_path))
    assert same(vae_lightning.load(tmp_path).state_dict(), vae_lightning.load(trained).state_dict())
    with pytest.raises(UserError, match=r'huggingface_hub.*pip install "vae-lightning\[export\]", or push=null'):
        export(str(trained), push="me/vae")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and a token for it."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        monkeypatch.setattr(constants, "ENDPOINT", server.url)  # it was read when imported
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server
        server.shutdown()
        huggingface_hub.close_session()


OF_THEIRS = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub to httpx


@OF_THEIRS
def test_the_hub_receives_the_very_bytes_and_gives_the_model_back(
    stand_in: Hub, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("not to be uploaded")
    caplog.set_level("INFO", "vae_lightning")
    export(str(trained), out=str(out), push="me/vae")
    assert f"pushed to {stand_in.url}/me/vae" in caplog.text
    assert stand_in.created["name"] == "vae"
    assert stand_in.created.get("visibility") == "private" or stand_in.created.get("private") is True
    assert stand_in.files == {path.name: path.read_bytes() for path in out.iterdir() if path.name != "mine.txt"}
    assert {"encoder.onnx", "decoder.onnx", "model.safetensors", "config.json", "README.md"} <= set(stand_in.files)
    assert b'snapshot_download("me/vae")' in stand_in.files["README.md"]
    export(str(trained), out=str(out), push="me/vae", onnx=False)  # there is a repository now
    assert stand_in.files["README.md"] == (out / "README.md").read_bytes()
    down = tmp_path / "down"
    down.mkdir()
    for name, content in stand_in.files.items():
        (down / name).write_bytes(content)
    assert same(vae_lightning.load(down).state_dict(), vae_lightning.load(trained).state_dict())


@OF_THEIRS
def test_a_hub_that_refuses_is_told_in_words_and_nothing_is_lost(
    stand_in: Hub, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(setting: Callable[[], object]) -> str:
        setting()
        with pytest.raises(UserError) as found:
            hub.push(out, ["config.json", "model.safetensors"], "me/vae", True)
        stand_in.refuse.clear()
        assert f"all files are in {out}" in str(found.value)
        return str(found.value)

    (out,) = export(str(trained), out=str(tmp_path / "out"), onnx=False)
    create, batch, commit = "/api/repos/create", "/objects/batch", "/commit/main"
    told = words(lambda: stand_in.refuse.update({create: (403, "no rights in the namespace me")}))
    assert "403, this token may not write there: take your own user name" in told
    assert "no rights in the namespace me" in told
    told = words(lambda: stand_in.refuse.update({batch: (413, "too large")}))
    assert "413, it takes no files of this size" in told
    told = words(lambda: stand_in.refuse.update({"/blobs/": (403, "the link has expired")}))  # in a thread of theirs
    assert "403, this token may not write there" in told
    assert "the link has expired" in told
    told = words(lambda: stand_in.refuse.update({commit: (409, "conflict")}))
    assert "409, something else is writing there: say the same again" in told
    told = words(lambda: monkeypatch.setenv("HF_TOKEN", "hf_wrong"))
    assert "401, the hub does not accept the token: say `hf auth login`, or set HF_TOKEN" in told
    told = words(lambda: monkeypatch.setattr(huggingface_hub, "get_token", lambda: None))
    assert "no token: say `hf auth login`, or set HF_TOKEN" in told
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_right")
    told = words(lambda: monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9"))
    assert "http://127.0.0.1:9: it cannot be reached" in told
    assert math.prod(vae_lightning.load(out).latent_shape) == 20
