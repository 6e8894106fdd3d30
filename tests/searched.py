"""A program with the real sweeper, whose jobs train nothing: `python searched.py <overrides>`.

A job returns -(loss.beta - 2)^2, after `SECONDS`. After `DIES_AFTER` of them the next is killed, with its sweep.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vae_lightning import command, status
from vae_lightning.sweep import resume

begun: list[Path] = []


def job(config: DictConfig) -> float:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    status.update(folder, state=status.RUNNING, overrides=list(hydra.overrides.task), objective=[config.objective])
    (folder / f"began-{os.getpid()}").touch()
    begun.append(folder)
    if len(begun) > float(os.environ.get("DIES_AFTER", "inf")):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("SECONDS", "0")))
    result = float(-((config.loss.beta - 2) ** 2))
    status.update(folder, state=status.DONE, result=result, seconds=0.0)
    return result


if __name__ == "__main__":
    sys.argv[1:1] = ["-m", "hydra/sweeper=optuna", "hydra/launcher=basic", "objective=test/elbo"]
    command.run("config", job, resume.expand)
