"""One run: seed, data, build, fit, test, keep."""

from __future__ import annotations

import copy
import logging
import os
import random
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig
from torch.distributions import Distribution

from vae_lightning import objective, signals
from vae_lightning.begun import begun, fitting, same_data
from vae_lightning.build import NO_MEMORY, build_anneals, build_loss, build_model, make
from vae_lightning.callback.checkpoints import checkpoints
from vae_lightning.callback.fits import Fits
from vae_lightning.callback.pictures import Pictures
from vae_lightning.callback.progress import Progress, ProgressBar
from vae_lightning.callback.pruning import pruning
from vae_lightning.callback.resume import Resume
from vae_lightning.callback.stop import Stop
from vae_lightning.check import plain, problems
from vae_lightning.checkpoint import describe, read_checkpoint
from vae_lightning.data.images import Images
from vae_lightning.errors import ConfigError, first_line
from vae_lightning.lit import LitVAE
from vae_lightning.ranks.together import Together
from vae_lightning.results import device_name, results_of, show, write

log = logging.getLogger("vae_lightning")


@dataclass(frozen=True)
class Run:
    """Everything that takes part in a run."""

    trainer: L.Trainer
    lit: LitVAE
    data: Images
    best: ModelCheckpoint
    progress: Progress
    resumed: Path | None


def prepare(config: DictConfig, choices: dict[str, Any], folder: Path) -> Run:
    """Check the configuration, seed, read the data and build all parts. Arguments and errors are those of `train`."""
    if wrong := problems(config, choices):
        raise ConfigError("\n".join(f"{key}: {value}" for key, value in wrong.items()))
    quiet()
    Distribution.set_default_validate_args(config.debug)
    resumed, checkpoint = begun(config)
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002  # some libraries draw from it
    torch.manual_seed(config.seed)

    progress = Progress(folder)
    data: Images = make(
        config.data,
        seed=config.seed,
        minibatches_per_step=config.trainer.minibatches_per_step,
        accumulate_grad_batches=config.trainer.accumulate_grad_batches,
    )
    same_data(checkpoint, data, config)
    facts = {
        "shape": data.shape,
        "n_train": data.n_train,
        "n_classes": data.n_classes,
        "n_labelled": int((data.train[1] >= 0).sum()),
        "n_context": data.n_classes if config.condition == "label" else 0,
    }
    record = describe(config, choices, {**facts, "shape": list(data.shape)})
    lit = build(config, record, data.steps_per_epoch, **facts)
    objective.check(config.objective, _try_out(lit, data))
    parts = {"folder": folder, "debug": config.debug}
    extras = [make(node, **parts) for node in plain(config.get("callback") or {}).values()]
    extras += pruning(config.objective)
    pictures = [Pictures(folder)] if config.pictures else []
    bar = [ProgressBar()] if config.trainer.enable_progress_bar else []
    best, last = checkpoints(folder, config.trainer.check_val_every_n_epoch)
    trainer = make(
        config.trainer,
        callbacks=[
            Together(config, choices),
            Fits(),
            Resume(config.resume.override or []),
            *pictures,
            progress,
            *bar,
            *extras,
            Stop(folder),
            best,
            last,
        ],
        loggers=[
            make(node, **parts, resumed_step=checkpoint.get("global_step"))
            for node in plain(config.get("logger") or {}).values()
        ],
        **parts,
    )
    return Run(trainer, lit, data, best, progress, resumed)


def train(config: DictConfig, choices: dict[str, Any], folder: Path) -> float:
    """Train, test the best checkpoint, and leave everything in `folder`.

    Args:
        config: as `compose` gives it.
        choices: the option of each group, likewise.
        folder: the run folder.

    Returns:
        The test loss, in nats per image.

    Raises:
        ConfigError: `config` cannot work.
        UserError: something outside is not as it should be, or training broke down; says what to do.
        Stopped: a signal has asked for it; the state is saved.
    """
    run = prepare(config, choices, folder)
    trainer, lit, data = run.trainer, run.lit, run.data
    parameters = sum(p.numel() for p in lit.parameters())
    if trainer.is_global_zero:
        log.info("%s, %d images of %s", data.name, data.n_train, "x".join(map(str, data.shape)))
        log.info("%s parameters, %s", f"{parameters:,}", device_name(trainer))
    with signals.patient(), fitting(run.resumed, run.progress):
        trainer.fit(lit, data, ckpt_path=run.resumed, weights_only=True)
    seconds = run.progress.elapsed()
    with signals.patient():
        trainer.test(lit, data, ckpt_path=run.best.best_model_path, weights_only=True, verbose=False)

    results = {
        **results_of(trainer),
        "val": read_checkpoint(Path(run.best.best_model_path)).get("val", {}),
        "best_checkpoint": os.path.relpath(run.best.best_model_path, folder),
        "seconds": round(seconds, 3),
        "images_per_second": round(run.progress.images / run.progress.seconds, 1),
        "parameters": parameters,
        "seed": config.seed,
        "data": data.describe(),
    }
    if trainer.is_global_zero:
        write(results, folder / "results.json")
        show(results, folder)
    return float(results["test"]["loss"])


def build(config: DictConfig, record: dict[str, Any], steps_per_epoch: int, **facts: Any) -> LitVAE:
    """The training module that `config` describes, for data of these `facts`."""
    model = build_model(config, **facts)
    fused = config.trainer.precision != "16-mixed"  # Lightning cannot clip behind a fused optimiser that unscales
    return LitVAE(
        model,
        build_loss(config, **facts, latent_shape=model.latent_shape),
        partial(make, config.optimizer, fused=fused),
        partial(make, config.scheduler, steps_per_epoch=steps_per_epoch, max_epochs=config.trainer.max_epochs),
        build_anneals(config),
        config.seed,
        config.trainer.gradient_clip_val,
        config.trainer.log_every_n_steps,
        record,
    )


def _try_out(lit: LitVAE, data: Images) -> list[str]:
    """One pass of a copy over two images: what cannot work says so before anything is trained or written.

    Returns:
        The names of what will be measured.

    Raises:
        ConfigError: in the words of the part that refuses.
    """
    model, loss = copy.deepcopy((lit.model, lit.loss))
    batch = next(iter(next(iter(data.val_dataloader()))))
    with torch.random.fork_rng(devices=[]):
        try:
            _, terms = loss(model.eval(), batch.x[:2], lit.context(batch.y[:2]))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        except RuntimeError as error:
            if not any(words in str(error) for words in NO_MEMORY):
                raise
            raise ConfigError(f"the first images need more memory than there is: {first_line(error)}") from error
    return ["loss", *terms, *(["elbo", "bits_per_dim"] if lit.bounds(terms) else [])]


def quiet() -> None:
    """Hide Lightning's advertisements and notes, and what torch tells Lightning; warnings to users stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated", module="lightning.*")
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # a run that goes on
