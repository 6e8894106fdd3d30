"""The model card: what a model is, what it is worth, how it is used and how it was made."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vae_lightning.atomic import replaced
from vae_lightning.evaluate.evaluate import formatted, read
from vae_lightning.export.onnx import Part
from vae_lightning.report.files import plain
from vae_lightning.results import DIGITS, UNITS, versions
from vae_lightning.results import read as read_json
from vae_lightning.stranger import read_yaml, texts
from vae_lightning.trained import Trained

NAME = "README.md"
PICTURES = {
    "samples.png": "Samples: E[x | z] with z from the prior",
    "reconstructions.png": "Test images, and below each its reconstruction",
}
Rows = list[tuple[str, str, str, str]]  # name, value, unit, note


def write(trained: Trained, parts: Sequence[Part], folder: Path, repo: str | None, license: str | None) -> list[str]:
    """Write README.md and copy the pictures beside it; gives the names of all these files."""
    pictures = [name for name in PICTURES if (trained.folder / "figures" / name).is_file()]
    for name in pictures:
        shutil.copyfile(trained.folder / "figures" / name, folder / name)
    with replaced(folder / NAME) as file:
        file.write(card(trained, parts, pictures, repo, license))
    return [NAME, *pictures]


def card(
    trained: Trained, parts: Sequence[Part], pictures: Sequence[str], repo: str | None, license: str | None
) -> str:
    """The text of README.md, with the front matter that the Hugging Face hub reads."""
    results, found = _results(trained), _findings(trained)
    data = results.get("data", {}).get("name", trained.choices["data"])
    images = "x".join(map(str, trained.record["facts"]["shape"]))
    title = f"Variational autoencoder of {plain(data)}"
    sections = [
        f"---\n{OmegaConf.to_yaml(_front(trained, parts, data, results, found, license))}---",
        f"# {title}",
        f"Made with vae_lightning {versions()['vae-lightning']}, for images of {images} (channels x height x width):",
        _table(("", "option"), ((plain(group), _code(name)) for group, name in trained.choices.items())),
        *(f"![{Path(name).stem}]({name})\n\n{PICTURES[name]}." for name in pictures),
        *_worth(results, found),
        _use(trained, repo),
        *_onnx(parts),
        *_made(trained),
    ]
    return "\n\n".join(sections) + "\n"


def _front(
    trained: Trained,
    parts: Sequence[Part],
    data: str,
    results: dict[str, Any],
    found: dict[str, Any],
    license: str | None,
) -> dict[str, Any]:
    """What the hub reads: https://huggingface.co/docs/hub/model-cards."""
    name = trained.choices["data"]
    metrics = [_metric(key, value, UNITS.get(key, "")) for key, value in results.get("test", {}).items()]
    for metric, entry in found.items():
        values = entry.get("values", {}).items()
        metrics += [_metric(key, v["value"], v.get("unit", ""), f"{metric}: ") for key, v in values]
    judged = {
        "task": {"type": "unconditional-image-generation", "name": "Image generation"},
        "dataset": {"type": name, "name": data, "split": "test"},
        "metrics": metrics,
    }
    onnx = ["onnx"] if any(not part.reason for part in parts) else []
    said = {
        "license": license,
        "library_name": "vae-lightning",
        "tags": ["vae", "variational-autoencoder", "pytorch", "vae-lightning", *onnx],
        "datasets": [name] if "mirror" in trained.config["data"]["source"] else [],  # what others can download
        "model-index": [{"name": f"vae-{name}", "results": [judged]}] if metrics else [],
    }
    return {key: value for key, value in said.items() if value}


def _metric(key: str, value: float, unit: str, where: str = "") -> dict[str, Any]:
    return {"type": key, "name": f"{where}{key}" + (f", {unit}" if unit else ""), "value": value}


def _results(trained: Trained) -> dict[str, Any]:
    """What results.json says of this checkpoint."""
    results = read_json(trained.folder / "results.json", "export")
    return results if Path(results.get("best_checkpoint", "")).name == trained.checkpoint.name else {}


def _findings(trained: Trained) -> dict[str, Any]:
    """What evaluate.json says of this checkpoint: metric -> its entry."""
    found = read(trained.folder)
    return dict(found.get("metrics", {})) if found.get("checkpoint") == trained.checkpoint.name else {}


def _worth(results: dict[str, Any], found: dict[str, Any]) -> list[str]:
    head = ("", "value", "unit", "")
    sections = []
    if results:
        tested = results.get("test", {}).items()
        rows = ((plain(k), f"{v:.{DIGITS.get(k, 2)}f}", UNITS.get(k, ""), "") for k, v in tested)
        sections += ["## Test set, after training", _table(head, rows)]
    for name, entry in found.items():
        if values := entry.get("values"):
            rows = (
                (plain(k), formatted(v), plain(v.get("unit") or ""), plain(v.get("note") or ""))
                for k, v in values.items()
            )
            settings = plain(", ".join(f"{k}={v}" for k, v in entry.get("settings", {}).items()))
            sections += [f"## Test set: {plain(name)}" + (f" ({settings})" if settings else ""), _table(head, rows)]
    return sections


def _use(trained: Trained, repo: str | None) -> str:
    n, shape = trained.model.n_context, ", ".join(map(str, trained.record["facts"]["shape"]))
    where, c = f'snapshot_download("{repo}")' if repo else '"path/to/this/folder"', ", c" if n else ""
    lines = [
        *(["import torch"] if n else []),
        *(["from huggingface_hub import snapshot_download"] if repo else []),
        "import vae_lightning",
        "",
        f"vae = vae_lightning.load({where})  # runs no code from the files",
        *([f"c = torch.eye({n})  # (B, {n}): labels, one-hot"] if n else []),
        f"x = vae.sample({n or 64}{c})  # ({n or 64}, {shape}), z from the model's own prior",
        f"q = vae.encode(x{c})  # q(z | x)",
        f"x = vae.decode(q.mode{c}).mean  # E[x | z]",
    ]
    return "\n".join(["## Use", "", "```python", *lines, "```"])


def _onnx(parts: Sequence[Part]) -> list[str]:
    if not parts:
        return []
    rows = [
        (f"no `{p.file}`", "", "", plain(p.reason))
        if p.reason
        else (f"`{p.file}`", _shapes(p.inputs), _shapes(p.outputs), f"{p.difference:.1e}")
        for p in parts
    ]
    return [
        "## Without PyTorch: ONNX",
        "`z` is the mode of q(z | x), which the decoder takes; `mean` of the decoder is E[x | z]. All numbers are "
        "float32 (`index`, of the codes: int64), pixels are as they were in training.",
        _table(("file", "in", "out", "largest difference from PyTorch, on test images"), rows),
    ]


def _shapes(named: dict[str, list[Any]]) -> str:
    return ", ".join(f"`{name}` ({', '.join(map(str, shape))})" for name, shape in named.items())


def _made(trained: Trained) -> list[str]:
    """The command line of the training, without what is of this machine."""
    saved = trained.folder / ".hydra" / "overrides.yaml"
    if not saved.is_file():
        return []
    overrides = texts(read_yaml(saved), saved)
    kept = [o for o in overrides if not o.lstrip("+~").startswith(("hydra", "ckpt=", "data.root="))]
    if any("`" in o or not o.isprintable() for o in kept):  # it would end the listing, and go on as it likes
        return []
    return ["## Made by", f"```bash\n{shlex.join(['python', '-m', 'vae_lightning', *kept])}\n```"]


def _code(text: str) -> str:
    """A name in the letters of code; what is none cannot leave them."""
    return "`" + "".join(c if c.isprintable() and c not in "`|<>" else "_" for c in text) + "`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
