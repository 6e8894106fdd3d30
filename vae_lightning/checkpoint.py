"""Checkpoints that are whole, hold nothing but numbers and plain values, and can be made into a model again."""

from __future__ import annotations

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
from vae_lightning.resume import BEST, find_checkpoint, instead
from vae_lightning.schema import Count, NonNegativeInt, allows
from vae_lightning.whole import Hashed, beside, damage, expect

FORMAT = 2  # Lightning's checkpoint callbacks no longer name files; `made_with`
FORMATS = (1, 2)  # that can be read: a small checkpoint of each is in the tests
LONGEST = 2**16  # characters of a record: those of all options together have some thousands
GROUPS = ("model", "posterior", "prior", "likelihood")  # what a model is made of
FACTS = {"shape": tuple[Count, Count, Count]} | dict.fromkeys(
    ("n_train", "n_classes", "n_labelled", "n_context"), NonNegativeInt
)  # what it is told of its data


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is replaced by the next one as a whole, once that is on the disk, and verified when it is read.

    Killed at any moment, a save leaves the old checkpoint or the new one, and a SHA-256 beside it that fits. Weights
    that are not finite are refused.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """
        Raises:
            NonFiniteError: a weight is not a finite number.
            OSError: it could not be written; an older one is there as it was.
        """
        weights = {name: value for name, value in checkpoint["state_dict"].items() if value.is_floating_point()}
        if (name := first_not_finite(weights)) is not None:
            raise NonFiniteError(f"{name} is not finite after step {checkpoint['global_step']}: {path} was not written")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path, "wb", durable=True) as file:
            hashed = Hashed(file)
            try:
                torch.save(checkpoint, hashed)  # type: ignore[arg-type]
            except RuntimeError:
                hashed.digest()  # torch's words for an error of the file are its own
                raise
            expect(path, hashed.digest())
        expect(path, hashed.digest(), settled=True)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """As `read_checkpoint`, whatever it is asked for: no code in a checkpoint is run."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        for each in (Path(path), beside(Path(path))):
            each.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint on the CPU; no code in it is run.

    Raises:
        UserError: it is damaged, or not one of this framework's; names another one beside it that is whole.
    """
    try:
        why = damage(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if why is not None:
        raise UserError(f"{path}: damaged, or not a checkpoint: {why}{instead(path)}")
    checkpoint = opened(path)
    if not isinstance(checkpoint, dict) or not isinstance(record := checkpoint.get("vae_lightning"), dict):
        raise UserError(f"{path}: not a checkpoint of vae_lightning")
    if record.get("format") not in FORMATS:
        raise UserError(f"{path}: of another version of vae_lightning (format {str(record.get('format'))[:20]})")
    check(checkpoint, path)
    return checkpoint


def describe(config: DictConfig, choices: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself, in plain primitives."""
    chosen = {group: choices[group] for group in (*GROUPS, "data", "loss")}
    said = {key: value for key, value in plain(config).items() if key != "ckpt"}
    return {"format": FORMAT, "choices": chosen, "config": said, "facts": facts}


def read_model(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the best checkpoint of a run folder, a checkpoint or an export says of itself, and the weights of its model.

    Raises:
        ConfigError: there is none.
        UserError: it is damaged, or not one of this framework's.
    """
    if (there := folder.exported(path)) is not None:
        record, weights = folder.read(there)
        if record.get("format") not in FORMATS:
            raise UserError(f"{path}: not an export of vae_lightning, or of another version")
        return record, weights
    checkpoint = read_checkpoint(find_checkpoint(path, BEST))
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
