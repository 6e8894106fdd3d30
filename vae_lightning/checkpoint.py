"""Checkpoints that are whole, hold nothing but numbers and plain values, and can be made into a model again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from vae_lightning.atomic import replaced
from vae_lightning.build import build_model
from vae_lightning.check import plain, problems
from vae_lightning.compose import compose
from vae_lightning.errors import NonFiniteError, UserError, first_line
from vae_lightning.export import folder
from vae_lightning.finite import first_not_finite
from vae_lightning.model.vae import VAE
from vae_lightning.opened import Bounded, check, opened, refused
from vae_lightning.paths import CONF
from vae_lightning.resume import find_checkpoint
from vae_lightning.schema import Count, NonNegativeInt, allows

FORMAT = 1
LONGEST = 2**16  # characters of a record: those of all options together have some thousands
GROUPS = ("model", "posterior", "prior", "likelihood")  # what a model is made of
FACTS = {"shape": tuple[Count, Count, Count]} | dict.fromkeys(
    ("n_train", "n_classes", "n_labelled", "n_context"), NonNegativeInt
)  # what it is told of its data


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, renames; refuses weights that are not finite."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        weights = {name: value for name, value in checkpoint["state_dict"].items() if value.is_floating_point()}
        if (name := first_not_finite(weights)) is not None:
            raise NonFiniteError(f"{name} is not finite after step {checkpoint['global_step']}: {path} was not written")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint on the CPU; no code in it is run.

    Raises:
        UserError: it is damaged, or not one of this framework's.
    """
    checkpoint = opened(path)
    record = checkpoint.get("vae_lightning") if isinstance(checkpoint, dict) else None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of vae_lightning, or of another version")
    check(checkpoint, path)
    return checkpoint


def describe(config: DictConfig, choices: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself, in plain primitives."""
    chosen = {group: choices[group] for group in (*GROUPS, "data", "loss")}
    return {"format": FORMAT, "choices": chosen, "config": plain(config), "facts": facts}


def read_model(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the best checkpoint of a run folder, a checkpoint or an export says of itself, and the weights of its model.

    Raises:
        ConfigError: there is none.
        UserError: it is damaged, or not one of this framework's.
    """
    if (there := folder.exported(path)) is not None:
        record, weights = folder.read(there)
        if record.get("format") != FORMAT:
            raise UserError(f"{path}: not an export of vae_lightning, or of another version")
        return record, weights
    checkpoint = read_checkpoint(find_checkpoint(path, "best.ckpt"))
    prefix = "model."
    state = checkpoint["state_dict"].items()
    return checkpoint["vae_lightning"], {k.removeprefix(prefix): v for k, v in state if k.startswith(prefix)}


def load(path: str | Path) -> VAE:
    """The trained model of a run folder (its best checkpoint), a checkpoint or an exported folder, on the CPU.

    The model is rebuilt from the names of its options and from values that pass the same checks as a command line;
    nothing that came with the file is run.

    Example:
        vae = vae_lightning.load("outputs/2026-01-31/12-00-00_000000")
        vae.sample(64)                      # (64, 1, 28, 28) in [0, 1]
        vae.encode(x).mean                  # (B, D)
        vae.log_prob(x, samples=5000)       # (B,) nats

    >>> load("nowhere")
    Traceback (most recent call last):
    vae_lightning.errors.ConfigError: nowhere: there is no such file or folder

    Raises:
        ConfigError: there is no checkpoint.
        UserError: it is damaged, or its options do not exist here.
    """
    return rebuild(*read_model(path), path)


def rebuild(record: dict[str, Any], weights: dict[str, Tensor], path: str | Path) -> VAE:
    """The model that `record` describes, with these weights; `path` is where they came from, for the errors.

    Raises:
        UserError: there are no such options or values here, or the weights are not those of such a model.
    """
    config = recorded(record, GROUPS, path, {"binarize": _parts(record, ("data",), path)["data"].get("binarize")})
    facts = {name: value for name, value in record["facts"].items() if name in FACTS}
    if wrong := [name for name, values in FACTS.items() if not allows(values, facts.get(name, 0))]:
        raise UserError(f"{path}: says {wrong[0]}={facts.get(wrong[0])}, which cannot be")
    try:
        with Bounded(weights):
            model = build_model(config, **{**facts, "shape": tuple(facts["shape"])})
    except Exception as error:  # values that are allowed one by one, and together make no model
        raise refused(path, error) from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: its weights are not those of the model that it names ({why})") from error
    return model.eval()


def recorded(
    record: dict[str, Any], groups: Sequence[str], path: str | Path, data: dict[str, Any] | None = None
) -> DictConfig:
    """The options and values of `groups` that `record` names, checked as a command line is.

    Args:
        record: what a checkpoint says of itself.
        groups: those that are wanted.
        path: where it came from, for the errors.
        data: in place of the configuration of the data.

    Raises:
        UserError: there are no such options here, or no such values.
    """
    values = _parts(record, groups, path)
    config, choices = compose([f"{group}={record['choices'][group]}" for group in groups])
    for group in groups:
        _set_values(config[group], values[group], f"{path}: {group}")
    if data is not None:
        config.data = data
    config.loss = {}  # what it was trained with is of no matter now
    config.condition = record["config"].get("condition")
    if wrong := problems(config, choices):
        raise UserError(f"{path}: " + "; ".join(f"{key}: {value}" for key, value in wrong.items()))
    return config


def _parts(record: dict[str, Any], groups: Sequence[str], path: str | Path) -> dict[str, dict[str, Any]]:
    """What `record` says of each of `groups`, in the options that there are here and in plain values."""
    choices, config, facts = (record.get(key) for key in ("choices", "config", "facts"))
    if not (isinstance(choices, dict) and isinstance(config, dict) and isinstance(facts, dict)):
        raise UserError(f"{path}: does not say how the model is made")
    if len(said := _text(record)) > LONGEST:
        raise UserError(f"{path}: says far more than vae_lightning would of a model")
    if "${" in said:  # it would be looked up, or worked out, when it is read
        raise UserError(f"{path}: a value in it refers to something else (${{...}}): vae_lightning did not write that")
    if missing := [group for group in groups if group not in choices or not isinstance(config.get(group), dict)]:
        raise UserError(
            f"{path}: does not say which {' or '.join(missing)} it was made with: an older version wrote it"
        )
    for group in groups:
        here = sorted(option.stem for option in (CONF / group).glob("*.yaml"))
        if choices[group] not in here:
            raise UserError(f"{path}: {group}={choices[group]}: there is no such option here; {', '.join(here)} are")
    return config


def _set_values(node: DictConfig, values: dict[str, Any], where: str) -> None:
    for key, value in values.items():
        own = node._get_node(key, validate_access=False)
        if own is None or isinstance(value, dict) != isinstance(own, DictConfig):
            raise UserError(f"{where}.{key}: there is no such key here")
        if isinstance(value, dict):
            _set_values(node[key], value, f"{where}.{key}")
        elif "_target_" in str(value):  # in a list; no name of code is taken from a file
            raise UserError(f"{where}.{key}: names code: vae_lightning did not write that")
        elif key != "_target_":
            try:
                OmegaConf.update(node, key, value)
            except OmegaConfBaseException as error:
                raise UserError(f"{where}.{key}: {first_line(error)}") from error


def _text(record: dict[str, Any]) -> str:
    try:
        return str(record)
    except RecursionError:
        return " " * (LONGEST + 1)
