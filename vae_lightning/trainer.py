"""Lightning's Trainer, with the knobs that make sense here."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from vae_lightning.bfloat16 import why_slow
from vae_lightning.callback.accelerate import Accelerate
from vae_lightning.callback.memory_format import MemoryFormat
from vae_lightning.checkpoint import AtomicCheckpointIO
from vae_lightning.errors import ConfigError
from vae_lightning.heap import keep_freed_memory
from vae_lightning.precision import lean
from vae_lightning.ranks.place import place
from vae_lightning.schema import Count, Positive

log = logging.getLogger("vae_lightning")


def trainer(
    folder: Path,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    debug: bool,
    max_epochs: Count = 20,
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto",
    devices: Count | list[int] | str = 1,
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true",
    matmul: Literal["highest", "high", "medium"] = "highest",
    strategy: Literal["auto", "ddp", "fsdp"] = "auto",
    channels_last: Literal["auto"] | bool = "auto",
    graph: bool = False,
    compile: bool = False,
    num_nodes: Count = 1,
    minibatches_per_step: Count = 16,
    gradient_clip_val: Positive | None = None,
    accumulate_grad_batches: Count = 1,
    log_every_n_steps: Count = 50,
    check_val_every_n_epoch: Count = 1,
    deterministic: bool = False,
    enable_progress_bar: bool = True,
    profiler: Literal["simple", "advanced", "pytorch"] | None = None,
) -> L.Trainer:
    """The Trainer of a run.

    `minibatches_per_step`, `gradient_clip_val`, `accumulate_grad_batches` and `log_every_n_steps` count minibatches
    and optimiser steps, of which Lightning sees several at once: the data module and `LitVAE` carry them out. `graph`
    and `compile` are other ways to make a step, see `Accelerate`; `channels_last` is for images, see `MemoryFormat`;
    `matmul` is `torch.set_float32_matmul_precision`.
    On a processor on which bfloat16 would be slower, a run in bf16-mixed is one in float32, and says so.

    Raises:
        ConfigError: this machine has no such accelerator, or not so many; the message is Lightning's.
    """
    if check_val_every_n_epoch > max_epochs:
        raise ValueError(
            f"trainer.check_val_every_n_epoch={check_val_every_n_epoch} is more than trainer.max_epochs={max_epochs}: "
            "without a validation there is no best checkpoint to test"
        )
    keep_freed_memory()
    torch.set_float32_matmul_precision(matmul)
    processor = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    if processor and precision == "bf16-mixed" and (why := why_slow()):
        log.warning("trainer.precision=bf16-mixed: %s, where bfloat16 is slower than float32; training in float32", why)
        precision = "32-true"
    try:
        gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
        made = L.Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=precision,
            strategy=strategy,
            num_nodes=num_nodes,
            max_epochs=max_epochs,
            check_val_every_n_epoch=check_val_every_n_epoch,
            deterministic=deterministic,
            enable_progress_bar=enable_progress_bar,
            enable_model_summary=False,
            profiler=profiler,
            detect_anomaly=debug,
            inference_mode=False,  # a loss may need a gradient by z, as a penalty
            default_root_dir=folder,
            callbacks=[
                MemoryFormat(channels_last, compile),
                Accelerate(graph, compile),
                *callbacks,
            ],
            logger=list(loggers),
            plugins=[AtomicCheckpointIO(), *_cluster()],
            sync_batchnorm=gpu,  # of no meaning to one process, and impossible on the processor
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"accelerator={accelerator}, devices={devices}: {error}") from error
    lean(made)
    made._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]  # see `Stop`
    return made


def _cluster() -> list[ClusterEnvironment]:
    """What Lightning is to make of Slurm: nothing, but for the numbers of the processes that `srun` has started.

    Slurm, or submitit, puts a job into the queue again, and it goes on from its last checkpoint: one that Lightning
    takes in the handler of a signal lies in the midst of a step.
    """
    if "SLURM_JOB_ID" not in os.environ or TorchElasticEnvironment.detect():
        return []
    return [LightningEnvironment() if place() is None else SLURMEnvironment(auto_requeue=False)]
