"""`python -m vae_lightning`: check the command line, compose the configuration, train."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vae_lightning import command, resume
from vae_lightning.errors import ConfigError, UserError


def main() -> None:
    """The console script `vae-lightning`. Ends with 0, 1 (a run failed) or 2 (the command line cannot work)."""
    command.run("config", _train, resume.expand, _failed)


def _train(config: DictConfig) -> Any:
    from vae_lightning.train import train

    return train(config, dict(HydraConfig.get().runtime.choices), _folder())


def _failed(error: UserError) -> float:
    """A folder in which nothing was trained is not left behind."""
    if isinstance(error, ConfigError) and not (_folder() / "checkpoints").exists():
        shutil.rmtree(_folder(), ignore_errors=True)
    return float("nan")


def _folder() -> Path:
    return Path(HydraConfig.get().runtime.output_dir)


if __name__ == "__main__":
    main()
