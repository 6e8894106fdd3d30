"""What the processes of a run do as one: they agree on what is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from vae_lightning.change import leaves
from vae_lightning.check import plain
from vae_lightning.errors import ConfigError


class Together(Callback):
    """Compares what each process was told before any of them trains.

    Args:
        config: as `compose` gives it.
        choices: the option of each group, likewise.

    Raises:
        ConfigError: the processes were told different things; names the keys.
    """

    def __init__(self, config: DictConfig, choices: Mapping[str, Any]) -> None:
        chosen = {group: option for group, option in choices.items() if not group.startswith("hydra/")}
        self.said = {**dict(leaves(plain(config))), **chosen}
        self.digest = hashlib.sha256(json.dumps(self.said, sort_keys=True, default=str).encode()).hexdigest()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or not dist.is_initialized():
            return
        digests = _everyones(self.digest)
        if len(set(digests)) > 1:
            different = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
            first, other = (_everyones(self.said)[rank] for rank in (0, different[0]))
            keys = [key for key in {**first, **other} if first.get(key) != other.get(key)]
            told = "; ".join(f"{key}={first.get(key)} and {key}={other.get(key)}" for key in keys)
            raise ConfigError(
                f"processes 0 and {different[0]} of a run were told different things: {told}. "
                "Give the same command line to all of them"
            )


def _everyones(value: Any) -> list[Any]:
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
