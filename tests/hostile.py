"""What somebody may have put into a run folder who wishes its next reader harm, and how to see whether it came to that.

Each harm is real: read by who trusts it, it writes a file, removes one, sends a request or crashes the process, which
`test_the_harm_is_real` shows for each kind.
"""

from __future__ import annotations

import http.server
import os
import pickle
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vae_lightning.override import quoted
from vae_lightning.whole import beside


@dataclass
class Witness:
    """Where harm would be seen: a file that must not appear, one that must not change, a server that nobody asks."""

    folder: Path
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def canary(self) -> Path:
        """A file that hostile code writes."""
        return self.folder / "canary"

    @property
    def victim(self) -> Path:
        """A file of the user's that hostile data names."""
        return self.folder / "home" / "victim.ckpt"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/best.ckpt"

    def prepare(self) -> None:
        """The user's file, options of a stranger's, and a package that does harm when it is imported."""
        self.victim.parent.mkdir(parents=True, exist_ok=True)
        self.victim.write_text("of the user")
        package = self.folder / "path" / "hostile_package"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(f"open({str(self.canary)!r}, 'w').close()")
        (package / "sub.py").write_text(f"def f(x: open({str(self.canary)!r}, 'w').close()): ...")
        (self.folder / "evil.yaml").write_text("_target_: hostile_package.sub.f")

    def unharmed(self) -> None:
        """Nothing has come of it, as far as can be seen."""
        assert not self.canary.exists(), "code from a file was run"
        assert [p.name for p in self.victim.parent.iterdir()] == [self.victim.name], "a file was written elsewhere"
        assert self.victim.read_text() == "of the user", "a file of the user was overwritten"
        assert not self.asked, f"a file made somebody connect: {self.asked}"
        assert "HOSTILE" not in os.environ


@contextmanager
def witness(folder: Path) -> Iterator[Witness]:
    """A witness, with its server."""
    found = Witness(folder)

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Nothing is told."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


class Reduced:
    """Whoever unpickles it, calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def shell(witness: Witness) -> Reduced:
    return Reduced(os.system, f"touch {witness.canary}")


def touch(witness: Witness) -> Reduced:
    return Reduced(Path.touch, witness.canary)


def evaluated(witness: Witness) -> Reduced:
    return Reduced(eval, f"__import__('pathlib').Path({str(witness.canary)!r}).touch()")


Content = dict[str, Any]
Change = Callable[[Content, Witness], Any]  # of the content of a checkpoint; what it returns, if anything, replaces it
Damage = Callable[[Path, Witness], None]  # of a run folder


def _set(*path: Any, to: Any) -> Change:
    """Put a value, or what a function makes of the witness, at a place of a checkpoint."""

    def change(content: Content, witness: Witness) -> None:
        node: Any = content
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = to(witness) if callable(to) else to

    return change


def _state_of_best(**values: Any) -> Change:
    """Values in the states of both ModelCheckpoints; without `dirpath` Lightning believes all of them."""

    def change(content: Content, witness: Witness) -> None:
        for name, state in content["callbacks"].items():
            if name.startswith("ModelCheckpoint"):
                state.pop("dirpath", None)
                state |= {key: value(content, witness) if callable(value) else value for key, value in values.items()}

    return change


def _removing(content: Content, witness: Witness) -> None:
    """Lightning removes the checkpoint that the new one takes the place of, if its name begins with the right folder.

    Which one that is on the disk of the victim can be guessed; without `dirpath` Lightning believes the rest.
    """
    for name, state in content["callbacks"].items():
        if name.startswith("ModelCheckpoint"):
            state.pop("dirpath", None)
            victim = f"{witness.folder}/downloads/run/checkpoints/{'../' * 20}{witness.victim.relative_to('/')}"
            score = torch.tensor(float("inf"))
            state |= {
                "best_model_path": victim,
                "kth_best_model_path": victim,
                "best_k_models": {victim: score},
                "kth_value": score,
                "best_model_score": score,
                "last_model_path": victim,
            }


def _remote(content: Content, witness: Witness) -> None:
    for name, state in content["callbacks"].items():
        if name.startswith("ModelCheckpoint"):
            state["best_model_path"] = witness.url
            state["best_k_models"] = {witness.url: torch.tensor(-float("inf"))}
            state["kth_best_model_path"], state["kth_value"] = witness.url, torch.tensor(-float("inf"))


def _nested(depth: int) -> Any:
    found: Any = "deep"
    for _ in range(depth):
        found = [found]
    return found


def _too_few_moments(content: Content, witness: Witness) -> None:
    for state in content["optimizer_states"][0]["state"].values():
        state["exp_avg"] = torch.zeros(1, dtype=torch.float32)


def _thin_moments(content: Content, witness: Witness) -> None:
    for state in content["optimizer_states"][0]["state"].values():
        state["exp_avg"] = state["exp_avg"].flatten()[:1].clone().expand(state["exp_avg"].shape)


def _expanded(content: Content, witness: Witness) -> None:
    """Weights of terabytes in a file of kilobytes: one number, seen again and again."""
    record, n = content["vae_lightning"], 10**6
    record["config"]["model"]["hidden"] = [n, n]
    for name, value in content["state_dict"].items():
        if value.dim() == 2:
            content["state_dict"][name] = torch.zeros(1, 1).expand(n, n)


RECORD = "vae_lightning"
GROUPS = ("model", "posterior", "prior", "likelihood", "data", "loss")
CODE = {"_target_": "os.system", "command": "touch canary"}

# name -> what is changed in a checkpoint
CHECKPOINTS: dict[str, Change] = {
    # code in the pickle
    "pickle: the file": lambda content, witness: shell(witness),
    "pickle: a weight": _set("state_dict", "model.infer.encoder.layers.0.bias", to=shell),
    "pickle: one more weight": _set("state_dict", "harmless", to=touch),
    "pickle: the optimiser": _set("optimizer_states", 0, "param_groups", 0, "lr", to=evaluated),
    "pickle: a callback": _set("callbacks", "Progress", to=touch),
    "pickle: the loops": _set("loops", "fit_loop", "state_dict", to=shell),
    "pickle: the configuration": _set(RECORD, "config", "seed", to=shell),
    "pickle: a choice": _set(RECORD, "choices", "model", to=evaluated),
    "pickle: hyper_parameters": _set("hyper_parameters", to=touch),
    "pickle: a schedule": _set("lr_schedulers", 0, "lr_lambdas", to=lambda witness: [touch(witness)]),
    # names of code in the configuration
    **{
        f"code: {group}": _set(RECORD, "config", group, "_target_", to=target)
        for group, target in zip(GROUPS, ["os.system", "hostile_package.sub.f", "os", "", "..", "a.b.c"], strict=True)
    },
    "code: for a number": _set(RECORD, "config", "model", "latent_dim", to=CODE),
    "code: in a list": _set(RECORD, "config", "model", "hidden", to=[{"_target_": "hostile_package.sub.f"}]),
    "code: for a path": _set(RECORD, "config", "data", "root", to=CODE),
    "code: the source": _set(RECORD, "config", "data", "source", "_target_", to="hostile_package.sub.f"),
    "code: one more key": _set(RECORD, "config", "model", "extra", to=CODE),
    "code: hyper_parameters": _set("hyper_parameters", to=CODE),
    # what is looked up or worked out when it is read
    "resolver: oc.env": _set(RECORD, "config", "data", "root", to="${oc.env:HOME}"),
    "resolver: oc.create": _set(RECORD, "config", "model", "hidden", to="${oc.create:{_target_:os.system}}"),
    "resolver: a node": _set(RECORD, "config", "posterior", "scale", to="${model}"),
    # words of a command line
    "option: Hydra's": _set(RECORD, "choices", "model", to="mlp ++hydra.job.name=x"),
    "option: a flag": _set(RECORD, "choices", "data", to="--config-dir=/tmp"),
    "option: a path": _set(RECORD, "choices", "model", to=lambda witness: f"../../..{witness.folder}/evil"),
    "option: a list": _set(RECORD, "choices", "prior", to=["normal"]),
    "option: none": _set(RECORD, "choices", "loss", to={"a": [1]}),
    # files elsewhere
    "path: the data": _set(RECORD, "config", "data", "root", to=lambda witness: f"{witness.victim}/../../.."),
    "path: a mirror": _set(RECORD, "config", "data", "source", "mirror", to=lambda witness: witness.url),
    "path: another checkpoint": _set(RECORD, "config", "ckpt", to=lambda witness: str(witness.victim)),
    "path: checkpoints to remove": _removing,
    "path: a checkpoint to fetch": _remote,
    # sizes
    "size: an image": _set(RECORD, "facts", "shape", to=[1, 10**6, 10**6]),
    "size: an image beyond": _set(RECORD, "facts", "shape", to=[2**40, 2**40, 2**40]),
    "size: classes": _set(RECORD, "facts", "n_context", to=10**12),
    "size: a layer": _set(RECORD, "config", "model", "hidden", to=[10**9]),
    "size: many layers": _set(RECORD, "config", "model", "hidden", to=[2] * 30_000),
    "size: latents": _set(RECORD, "config", "model", "latent_dim", to=10**11),
    "size: weights": _expanded,
    "size: an epoch": _set("loops", "fit_loop", "epoch_progress", "current", "processed", to=10**30),
    "size: depth": _set(RECORD, "config", "callback", to=_nested(3000)),
    "size: depth of a value": _set(RECORD, "config", "model", "hidden", to=_nested(3000)),
    "size: moments": _too_few_moments,
    "size: moments of one number": _thin_moments,
    # types
    **{
        f"type: {RECORD}.{key}={value!r}": _set(RECORD, key, to=value)
        for key in ("choices", "config", "facts")
        for value in (None, "x", [1], {})
    },
    f"type: {RECORD}": _set(RECORD, to="x"),
    "type: format": _set(RECORD, "format", to=[1]),
    **{
        f"type: config.{key}={value!r}": _set(RECORD, "config", key, to=value)
        for key, value in (
            *((group, "x") for group in GROUPS),
            ("model", [1]),
            ("seed", "x"),
            ("seed", -1),
            ("condition", ["label"]),
            ("condition", "label"),
        )
    },
    **{
        f"type: facts.{key}={value!r}": _set(RECORD, "facts", key, to=value)
        for key, value in (
            ("shape", "abc"),
            ("shape", [1, 28]),
            ("shape", [1, 0, 28]),
            ("shape", [1, 14, 14]),
            ("n_context", "x"),
            ("n_context", 3),
            ("n_train", True),
            ("n_classes", 1.5),
        )
    },
    "type: data.limit": _set(RECORD, "config", "data", "limit", to="all"),
    "type: data.binarize": _set(RECORD, "config", "data", "binarize", to=7),
    "type: data.batch_size": _set(RECORD, "config", "data", "batch_size", to=0),
    "type: a tensor": _set(RECORD, "config", "model", "hidden", to=torch.zeros(3)),
    "type: data.source": _set(RECORD, "config", "data", "source", to=[]),
    **{
        f"type: val={str(value)[:20]}": _set("val", to=value)
        for value in ("x", [1.0], {1: 1.0}, {"loss": "x"}, {"loss": float("nan")}, {"loss": torch.zeros(2)})
    },
    **{
        f"type: meter={str(value)[:40]}": _set("meter", to=value)
        for value in (
            None,
            {},
            {"names": "loss", "rows": [], "sizes": []},
            {"names": ["loss"], "rows": [torch.zeros(2)], "sizes": [1]},
            {"names": ["loss"], "rows": [1.0], "sizes": [1]},
            {"names": ["loss"], "rows": [torch.zeros(1)], "sizes": ["x"]},
            {"names": [], "rows": [], "sizes": [3]},
        )
    },
    **{
        f"type: state_dict={str(value)[:30]}": _set("state_dict", to=value)
        for value in (None, [], {}, {1: torch.zeros(1)}, {"model.x": 3}, {"model.x": torch.zeros(1).to_sparse()})
    },
    "type: a weight of another shape": _set("state_dict", "model.infer.encoder.layers.0.bias", to=torch.zeros(3)),
    "type: a weight that is nowhere": _set(
        "state_dict", "model.infer.encoder.layers.0.bias", to=torch.zeros(16, device="meta")
    ),
    **{f"type: loops={value!r}": _set("loops", to=value) for value in (None, {}, {"fit_loop": {}})},
    "type: fit_loop.state_dict": _set(
        "loops", "fit_loop", "state_dict", to={"combined_loader": [{"epoch": "x", "position": []}]}
    ),
    "type: batch_progress": _set("loops", "fit_loop", "epoch_loop.batch_progress", to={"total": 3}),
    "type: optim_step_progress": _set(
        "loops", "fit_loop", "epoch_loop.manual_optimization.optim_step_progress", "total", "completed", to="x"
    ),
    **{f"type: callbacks={value!r}": _set("callbacks", to=value) for value in ([], "x", {"Progress": 3})},
    "type: Progress": _set("callbacks", "Progress", to={"seconds": "x", "images": None, "elapsed": []}),
    "type: scores": _state_of_best(best_model_score="x"),
    "type: no scores": _state_of_best(best_k_models=3, best_model_path=7, kth_value="x"),
    **{f"type: optimizer_states={value!r}": _set("optimizer_states", to=value) for value in (None, [], [3], [{}])},
    "type: param_groups": _set("optimizer_states", 0, "param_groups", to="x"),
    "type: lr": _set("optimizer_states", 0, "param_groups", 0, "lr", to="x"),
    "type: betas": _set("optimizer_states", 0, "param_groups", 0, "betas", to=[1]),
    "type: step": _set("optimizer_states", 0, "state", 0, "step", to=torch.zeros(3)),
    "type: a moment": _set("optimizer_states", 0, "state", 0, "exp_avg_sq", to=None),
    **{f"type: lr_schedulers={value!r}": _set("lr_schedulers", to=value) for value in (None, [], [3])},
    "type: a schedule's method": _set("lr_schedulers", 0, "step", to="x"),
    "type: last_epoch": _set("lr_schedulers", 0, "last_epoch", to="x"),
    **{
        f"type: version={value!r}": _set("pytorch-lightning_version", to=value)
        for value in (None, 3, "x", "0.0.1", "99.0")
    },
    "type: global_step": _set("global_step", to="x"),
    "type: epoch": _set("epoch", to=[]),
}


def write_checkpoint(path: Path, change: Change, witness: Witness) -> None:
    """Change a checkpoint where it lies."""
    content = torch.load(path, weights_only=True)
    content = change(content, witness) or content
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        torch.save(content, path)
    finally:
        sys.setrecursionlimit(before)
    beside(path).unlink(missing_ok=True)


def _strange(folder: Path) -> list[Path]:
    """The checkpoints of a run, without the SHA-256 beside each, which a stranger leaves out."""
    files = sorted((folder / "checkpoints").glob("*.ckpt"))
    for path in files:
        beside(path).unlink(missing_ok=True)
    return files


def _checkpoints(change: Change) -> Damage:
    def damage(folder: Path, witness: Witness) -> None:
        for path in _strange(folder):
            write_checkpoint(path, change, witness)

    return damage


def _each(write: Callable[[Path, Witness], None]) -> Damage:
    """Replace both checkpoints by files of other kinds."""

    def damage(folder: Path, witness: Witness) -> None:
        for path in _strange(folder):
            write(path, witness)

    return damage


def _old_format(path: Path, witness: Witness) -> None:
    torch.save({"state_dict": shell(witness)}, path, _use_new_zipfile_serialization=False)


def _packed(path: Path, witness: Witness) -> None:
    """Gigabytes of zeros in some megabytes; here less, as the law is that nothing packed is opened."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            archive.writestr(entry.filename, content)


def _cut(path: Path, witness: Witness) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


FILES: dict[str, Damage] = {
    **{name: _checkpoints(change) for name, change in CHECKPOINTS.items()},
    "file: a pickle": _each(lambda path, witness: path.write_bytes(pickle.dumps(shell(witness)))),
    "file: of the old format": _each(_old_format),
    "file: packed": _each(_packed),
    "file: cut": _each(_cut),
    "file: empty": _each(lambda path, witness: path.write_bytes(b"")),
    "file: a page": _each(lambda path, witness: path.write_text("<html>")),
    "file: a list": _each(lambda path, witness: torch.save([1], path)),
    "file: a tensor": _each(lambda path, witness: torch.save(torch.zeros(3), path)),
}


# ---- the other files of a run folder ------------------------------------------------------------------------------
def text(name: str, content: str | Callable[[Witness], str]) -> Damage:
    """A file of a run folder with other content."""

    def damage(folder: Path, witness: Witness) -> None:
        (folder / name).write_text(content if isinstance(content, str) else content(witness))

    return damage


def link(name: str, to: str = "home/victim.ckpt") -> Damage:
    """A link in place of a file or a folder, to what is the user's."""

    def damage(folder: Path, witness: Witness) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            path.rename(witness.folder / f"before of {path.name}")
        path.unlink(missing_ok=True)
        path.symlink_to(witness.folder / to)

    return damage


def pipe(name: str) -> Damage:
    """Whoever opens it, waits for ever."""

    def damage(folder: Path, witness: Witness) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def tagged(witness: Witness) -> str:
    """YAML that runs a command when all its tags are obeyed."""
    return f"- !!python/object/apply:os.system ['touch {witness.canary}']\n"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
DEEP = "[" * 2000 + "]" * 2000
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def created(witness: Witness) -> str:
    """A command in an interpolation: the name of the key is put together when it is looked up."""
    inner = "{_tar${oc.env:NOWHERE,''}get_: os.system, command: 'touch CANARY'}".replace("CANARY", str(witness.canary))
    return '${oc.create:${oc.decode:"' + inner + '"}}'


# overrides that no file may bring: they run code, look up secrets, or reach elsewhere
OVERRIDES: dict[str, Callable[[Witness], str]] = {
    "a _target_": lambda w: "callback.x={_target_: os.system, command: 'touch " + str(w.canary) + "'}",
    "a _target_ in a key": lambda w: "+callback.x._target_=os.system",
    "oc.create": lambda w: f"callback.early_stopping={quoted(created(w))}",
    "oc.create of a logger": lambda w: f"logger.csv={quoted(created(w))}",
    "oc.env": lambda w: "data.root=${oc.env:HOME}",
    "a package": lambda w: "model@hydra.job_logging=mlp",
    "a new line": lambda w: "objective='test/loss\nx'",
    "a folder that is not here": lambda w: f"data.root={w.folder}/new",
    "a path for an option": lambda w: f"model=../../../..{w.folder}/evil",
    "an unknown group": lambda w: f"+evil=../../../..{w.folder}/evil",
    "no override": lambda w: "][",
}
