"""Whether the states of a checkpoint are those of the run that is to go on from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from vae_lightning.errors import UserError
from vae_lightning.lit import LitVAE


class Fits(Callback):
    """Compares what a checkpoint brings with what this run has: torch and Lightning believe that it fits.

    A moment of Adam's that is shorter than its weight is read and written beyond its end, and a schedule takes any name
    and any value.
    """

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """
        Raises:
            UserError: a state is not of the form that this run's own has.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        states = checkpoint["callbacks"]
        for each in trainer.callbacks:  # type: ignore[attr-defined]
            if each.state_key in states and not isinstance(each, ModelCheckpoint):
                _alike(each.state_dict(), states[each.state_key], f"callbacks.{each.state_key}")
        _alike(trainer.fit_loop.state_dict(), checkpoint["loops"]["fit_loop"], "loops.fit_loop")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """
        Raises:
            UserError: what the optimiser was given is not of this run's weights.
        """
        for optimizer in trainer.optimizers:
            for name, value in _misfits(optimizer):
                shown = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
                raise UserError(f"optimizer_states: {name} is {shown}, which does not fit this run")
            _same_schedules(trainer, pl_module, optimizer)


def _same_schedules(trainer: L.Trainer, module: L.LightningModule, optimizer: torch.optim.Optimizer) -> None:
    """Whether a schedule has what a new one has: torch takes any name and any value into it, also those of methods."""
    assert isinstance(module, LitVAE)
    groups = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in optimizer.param_groups]
    fresh = module.make_scheduler(optimizer=torch.optim.SGD(groups, lr=1.0))[0].state_dict()
    for config in trainer.lr_scheduler_configs:
        state = config.scheduler.state_dict()
        if more := state.keys() - fresh.keys():
            raise UserError(f"lr_schedulers: {', '.join(sorted(map(str, more)))}: this run's has no such thing")
        _alike(fresh, state, "lr_schedulers")


def _alike(own: Any, given: Any, where: str) -> None:
    """Whether what a checkpoint has is of the form that `own` has; where that is empty, there is nothing to compare."""
    if isinstance(own, dict):
        if not isinstance(given, dict) or (own and not own.keys() <= given.keys()):
            raise UserError(f"{where}: is not as this run has it")
        for key, value in own.items():
            _alike(value, given[key], f"{where}.{key}")
    elif isinstance(own, list):
        same = isinstance(given, list) and len(given) == len(own)
        for i, value in enumerate(own if same else []):
            _alike(value, given[i], f"{where}[{i}]")
    elif isinstance(own, bool | str):
        same = type(given) is type(own) or (isinstance(own, str) and given is None)
    elif isinstance(own, int | float):
        same = isinstance(given, int | float) and not isinstance(given, bool) and (isinstance(own, float) or given >= 0)
    elif isinstance(own, Tensor):
        same = isinstance(given, Tensor) and given.shape == own.shape
    else:
        same = True
    if not isinstance(own, dict) and not same:
        raise UserError(f"{where}: is not as this run has it")


def _misfits(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    """What an optimiser would stumble over: moments of other shapes, settings of other kinds."""
    for group in optimizer.param_groups:
        for name, value in group.items():
            usual = optimizer.defaults.get(name)
            kinds = (int, float, Tensor) if isinstance(usual, float) else () if usual is None else (type(usual),)
            if name != "params" and kinds and not isinstance(value, (*kinds, type(None))[: len(kinds)]):
                yield name, value
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if not isinstance(value, int | float) and not _fits(name, value, parameter):
                    yield name, value


def _fits(name: str, value: Any, parameter: Tensor) -> bool:
    """Whether a kernel that goes through `parameter` by its address may go through `value` as well."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    if name == "step":
        return value.shape == ()
    alike = value.shape == parameter.shape and value.dtype == parameter.dtype and value.device == parameter.device
    return alike and bool(torch.ops.aten.is_non_overlapping_and_dense(value))
