"""What a run that goes on takes from its checkpoint: what fits this run, and nothing that leads out of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from vae_lightning.errors import UserError
from vae_lightning.lit import LitVAE


class Kept(ModelCheckpoint):
    """Lightning's own, in states that it may not have written.

    A checkpoint names files, which Lightning reads, overwrites and removes: only those of this folder count, and of
    another one the file of the same name in this folder. And it has numbers of which torch and Lightning believe that
    they fit: a moment of Adam's that is shorter than its weight is read and written beyond its end.
    """

    @property
    def state_key(self) -> str:
        """As of the class that this is one of."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Scores stay with the files that there are.

        Raises:
            UserError: the state is none of a ModelCheckpoint.
        """
        state = state_dict if isinstance(state_dict, dict) else {}
        best, known = self._own(state.get("best_model_path")), state.get("best_k_models")
        scores = known if isinstance(known, dict) else {}
        if not all(_score(score) for score in scores.values()):
            raise UserError("callbacks: a score is no number")
        kept = {path: score for name, score in scores.items() if (path := self._own(name))}
        least = max if self.mode == "min" else min
        worst = least(kept, key=lambda path: float(kept[path])) if kept else ""
        super().load_state_dict(
            {
                "dirpath": self.dirpath,
                "best_model_path": best,
                "best_model_score": kept.get(best),
                "best_k_models": kept,
                "kth_best_model_path": worst,
                "kth_value": kept.get(worst, self.kth_value),
                "last_model_path": "",
            }
        )

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """
        Raises:
            UserError: a state is not of the form that this run's own has.
        """
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
        super().on_train_start(trainer, pl_module)
        for optimizer in trainer.optimizers:
            for name, value in _misfits(optimizer):
                shown = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
                raise UserError(f"optimizer_states: {name} is {shown}, which does not fit this run")
            _same_schedules(trainer, pl_module, optimizer)

    def _own(self, name: Any) -> str:
        """The file of this name in this folder; empty if there is none, or it is not the one that this one writes."""
        path = Path(self.dirpath or "") / f"{self.filename}{self.FILE_EXTENSION}"
        return str(path) if isinstance(name, str) and Path(name).name == path.name and path.is_file() else ""


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


def _score(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)


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
