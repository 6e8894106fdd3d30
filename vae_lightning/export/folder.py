"""What a model is passed on as: `model.safetensors`, and `config.json`, which says how it is made; no code in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vae_lightning.atomic import replaced, write_json
from vae_lightning.errors import UserError
from vae_lightning.paths import expanded

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def exported(path: str | Path) -> Path | None:
    """The exported folder that `path`, a folder or a file in it, stands for; None if it is none."""
    path = expanded(path)
    folder = path.parent if path.name in (WEIGHTS, CONFIG) else path
    return folder if (folder / CONFIG).is_file() or (folder / WEIGHTS).is_file() else None


def write(folder: Path, record: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write both files.

    Args:
        folder: where to.
        record: what a checkpoint says of itself: JSON can say it.
        weights: any dtypes; they may share memory.
    """
    apart = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    content = save(apart, {"format": "pt"})
    with replaced(folder / WEIGHTS, "wb") as file:
        file.write(content)
    said = {**record, "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(content).hexdigest()}}
    write_json(folder / CONFIG, said, allow_nan=False)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write` was given.

    Raises:
        UserError: a file is missing, damaged, or not one of this framework's.
    """
    config, weights = folder / CONFIG, folder / WEIGHTS
    for path in (config, weights):
        if not path.is_file():
            raise UserError(f"{path}: missing; {WEIGHTS} and {CONFIG} belong together")
    try:
        record = json.loads(config.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{config}: damaged, or not JSON") from error
    if "_target_" in str(record):
        raise UserError(f"{config}: names code, in a key _target_: vae_lightning did not write that")
    digest = record.pop("weights", None) if isinstance(record, dict) else None
    if not isinstance(digest, dict) or not isinstance(digest.get("sha256"), str):
        raise UserError(f"{config}: not an export of vae_lightning")
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest["sha256"]:
        raise UserError(
            f"{weights}: damaged, or not the weights that {CONFIG} was written with (their SHA-256 is another one); "
            "export or download it again"
        )
    try:
        return record, load_file(weights)
    except SafetensorError as error:
        raise UserError(f"{weights}: damaged, or not safetensors ({error})") from error
