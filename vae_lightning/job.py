"""What `python -m vae_lightning` does with a configuration: one run, or one job of a sweep, with a status."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from vae_lightning import objective, signals, status
from vae_lightning.atomic import sweep
from vae_lightning.check import plain, problems
from vae_lightning.errors import ConfigError, UserError, of_disk
from vae_lightning.importing import uncollected
from vae_lightning.ranks import place as ranks
from vae_lightning.ranks.start import processes, together
from vae_lightning.ranks.work import hush
from vae_lightning.resume import BEST, LAST
from vae_lightning.search.trial import Pruned
from vae_lightning.sweep.resume import is_resumed

log = logging.getLogger("vae_lightning")


def run(config: DictConfig) -> Any:
    """As `_run`, and it ends in good order if a signal asks for that."""
    with signals.heard():
        return _run(config)


def _run(config: DictConfig) -> Any:
    """Train, and say in `status.json` how it goes.

    Returns:
        What `objective` names: a finite number, or a list of them. In a sweep NaN if the job has failed.

    Raises:
        UserError: outside of a sweep: something is wrong, in words.
        Stopped: a signal has asked for it.
    """
    hydra = HydraConfig.get()
    folder, choices = Path(hydra.runtime.output_dir), dict(hydra.runtime.choices)
    if ranks.rank():  # the first of them says how it goes
        hush()
        return _train(config, choices, folder)
    known, in_sweep = status.read(folder), hydra.mode == RunMode.MULTIRUN
    begun = in_sweep and (is_resumed() or ranks.requeued(known))
    if begun and known.get("state") == status.DONE:
        return known["result"]
    if begun and config.ckpt is None and any((folder / "checkpoints" / name).is_file() for name in (LAST, BEST)):
        config.ckpt = str(folder)
    for stale in (*sweep(folder), *sweep(folder / "checkpoints")):
        log.info("%s: left half written by a process that was killed, and removed", stale)
    fresh, started = not (folder / "checkpoints").exists(), time.time()
    said = {"overrides": list(hydra.overrides.task), "objective": objective.names(config.objective)}
    here = {"host": socket.gethostname(), "pid": os.getpid(), "job": ranks.job()}
    status.update(folder, state=status.RUNNING, **said, reason=None, **here)
    try:
        if not (begun and (folder / "results.json").is_file()):
            _train_together(config, choices, folder)
        result = _read(folder, config.objective)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        end = _end(error)
        known_cause = error if isinstance(error, UserError | signals.Stopped) else of_disk(error)
        reason = str(known_cause) if known_cause is not None else f"{type(error).__name__}: {error}"
        status.update(folder, state=end, reason=reason, seconds=round(time.time() - started, 3))
        if end == status.PRUNED or (in_sweep and end == status.FAILED):
            level = logging.INFO if end == status.PRUNED else logging.ERROR
            log.log(level, "%s", reason, exc_info=not isinstance(error, UserError))
            return float("nan")
        if end == status.INTERRUPTED:
            log.info("%s. Go on with ckpt=%s", reason, folder)
        if fresh and isinstance(error, ConfigError):
            _clear(folder, hydra.output_subdir, f"{hydra.job.name}.log")
        raise
    status.update(folder, state=status.DONE, result=result, seconds=round(time.time() - started, 3))
    return result


def _end(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt | signals.Stopped) or ranks.puts_back(error):
        return status.INTERRUPTED
    return status.PRUNED if isinstance(error, Pruned) else status.FAILED


def _train_together(config: DictConfig, choices: dict[str, Any], folder: Path) -> None:
    """In as many processes as the configuration asks for."""
    if wrong := problems(config, choices):
        raise ConfigError("\n".join(f"{key}: {value}" for key, value in wrong.items()))
    n = processes(config.trainer)
    if n == 1:
        return _train(config, choices, folder)
    hydra = HydraConfig.get()
    jobs = hydra.launcher.get("n_jobs") or 1 if hydra.mode == RunMode.MULTIRUN else 1
    same, voice = (OmegaConf.create(plain(part)) for part in (config, hydra.job_logging))
    OmegaConf.set_struct(same, True)
    together(partial(_train, same, choices, folder), n, n * max(1, jobs), voice)


def _train(config: DictConfig, choices: dict[str, Any], folder: Path) -> None:
    with uncollected():
        from vae_lightning.train import train

    train(config, choices, folder)


def _read(folder: Path, asked: str | list[str]) -> float | list[float]:
    from vae_lightning import results

    found = objective.values(results.read(folder / "results.json", "train"), asked)
    return found[0] if isinstance(asked, str) else found


def _clear(folder: Path, *names: str | None) -> None:
    """A folder in which nothing was trained is not left behind; what is not ours in it is."""
    for name in filter(None, (*names, status.NAME)):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
    folder, here = folder.absolute(), Path(HydraConfig.get().runtime.cwd)
    for place in (folder, *folder.parents):  # outputs/<date> and outputs too
        if (place != folder and here not in place.parents) or place == here or any(place.iterdir()):
            break
        place.rmdir()
