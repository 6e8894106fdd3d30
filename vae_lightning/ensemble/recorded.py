"""The steps of several jobs as one recorded graph. Shapes: J jobs, K minibatches, B batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

from vae_lightning.anneal import place
from vae_lightning.data.loader import Minibatch
from vae_lightning.ensemble.ensemble import Ensemble, modules
from vae_lightning.ensemble.spread import Place
from vae_lightning.graph import Recorder, kind
from vae_lightning.lit import LitVAE
from vae_lightning.numbers import Now, Table
from vae_lightning.optimizer import FusedAdam, Moving, Numbers, fused

KEPT = ("exp_avg", "exp_avg_sq")


class Plan(NamedTuple):
    """A job wants to take these steps, all at once if that is possible."""

    lit: LitVAE
    batches: list[Minibatch]
    optimizer: LightningOptimizer


class Launch(NamedTuple):
    """A job has gone on over the minibatches of its plan, and these were the numbers."""

    plan: Plan
    numbers: list[Now]


def obstacle(plans: Sequence[Plan]) -> str | None:
    """Why the optimisers of jobs cannot step as one; None if they can."""
    lits, optimizers = [plan.lit for plan in plans], [plan.optimizer.optimizer for plan in plans]
    if not all(isinstance(o, FusedAdam) and len(o.param_groups) == 1 for o in optimizers):
        return "needs optimizer=adam or adamw, with one learning rate for all parameters"
    if any(o._optimizer_step_post_hooks for o in optimizers):
        return "a callback listens to each step"
    if any(p not in o.state for o in optimizers for p in o.param_groups[0]["params"]):
        return "a parameter has no gradient"
    if len({tuple(lit.annealed) for lit in lits}) > 1:
        return "not all jobs anneal the same"
    if any(lit.gradient_clip_val is not None for lit in lits):
        return "trainer.gradient_clip_val looks at the gradient of each job"
    if any(lit.schedule_interval == "step" for lit in lits):
        return "the learning rate changes with each step"
    settings = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in optimizers]
    if any(setting != settings[0] for setting in settings) or len({lit.global_step for lit in lits}) > 1:
        return "the jobs differ in the optimiser's numbers"
    return None


@dataclass(frozen=True)
class Recorded:
    """The steps of all jobs in memory that stays where it is."""

    x: list[Tensor]  # (J, B, ...) for each minibatch
    y: list[Tensor]
    annealed: Tensor  # (K, N, J)
    rates: Table  # learning rates
    names: list[str]  # of the loss and its terms
    values: Tensor  # (K, names, J)
    run: Callable[[], None]


class RecordedEnsemble:
    """Steps of an ensemble that are launched at once: the gradients, and Adam's step of all jobs as one.

    Each job's optimiser keeps its own state, of which the moments are rows of the same tensors.

    Args:
        ensemble: computes the gradients.
        recorder: records.
    """

    def __init__(self, ensemble: Ensemble, recorder: Recorder) -> None:
        self.ensemble, self.recorder = ensemble, recorder
        self.recorded: dict[Hashable, Recorded] = {}
        self.moments: list[list[Tensor]] = []  # (J, ...) for each parameter; first and second
        self.counts = torch.empty(0)  # of steps, for each parameter

    def record(self, plans: Sequence[Plan]) -> None:
        """Record the steps that jobs plan, which are alike; nothing is done yet."""
        first, adam = plans[0], plans[0].optimizer.optimizer
        if not self.moments:
            self._stack([plan.optimizer.optimizer for plan in plans])
        n, stacks, (means, squares) = len(first.batches), list(self.ensemble.trained.values()), self.moments
        x, y = [_together(plans, "x", k) for k in range(n)], [_together(plans, "y", k) for k in range(n)]
        device, dtype, paths = stacks[0].device, stacks[0].dtype, list(first.lit.annealed)
        annealed = torch.zeros(n, len(paths), len(plans), device=device, dtype=dtype)
        rates = Table(n, 1, device, torch.float32 if stacks[0].is_cuda else torch.float64)
        constant, places = self.ensemble.spread.values(stacks[0]), [_place(first.lit, path) for path in paths]
        told = Numbers.of(adam.param_groups[0])
        for plan, noise in zip(plans, self.ensemble.noise or [], strict=True):
            noise.start(plan.batches[0])

        def work() -> tuple[list[str], Tensor]:
            waiting, rows = list[Tensor | None](), []
            for k, batch in enumerate(first.batches):
                now = {**constant, **dict(zip(places, annealed[k].unbind(), strict=True))}
                found, gradients = self.ensemble.compute([plan.batches[k] for plan in plans], x[k], y[k], now)
                waiting = [_add(a, b) for a, b in zip(waiting or [None] * len(stacks), gradients, strict=True)]
                rows.append(torch.stack(list(found.values())))
                if batch.steps:
                    every = zip(stacks, waiting, means, squares, self.counts.unbind(), strict=True)
                    moving = zip(*(each for each in every if each[1] is not None), strict=True)
                    with torch.no_grad():
                        fused(Moving(*map(list, moving)), told._replace(lr=rates.row(k)[0]))
                    waiting = []
            return list(found), torch.stack(rows)

        with torch.no_grad():
            self.counts.copy_(torch.stack(self._steps(0, adam)))
        (names, values), run = self.recorder.record(work, self.ensemble.noise or ())
        self.recorded[_kinds(first)] = Recorded(x, y, annealed, rates, names, values, run)

    def knows(self, plan: Plan) -> bool:
        """Whether the steps of this plan were recorded."""
        return _kinds(plan) in self.recorded

    @torch.no_grad()
    def run(self, launches: Sequence[Launch]) -> tuple[list[str], Tensor]:
        """Take the steps of all jobs: the names and the values (K, names, J)."""
        plans, n = [launch.plan for launch in launches], len(launches[0].numbers)
        recorded = self.recorded[_kinds(plans[0])]
        for part in ("x", "y"):
            there = [row for all_jobs in getattr(recorded, part) for row in all_jobs.unbind()]
            torch._foreach_copy_(there, [getattr(plan.batches[k], part) for k in range(n) for plan in plans])
        recorded.rates.write([now.rates for now in launches[0].numbers])
        annealed = np.asarray([[now.annealed for now in launch.numbers] for launch in launches])  # (J, K, N)
        recorded.annealed.copy_(torch.from_numpy(annealed).movedim(0, -1), non_blocking=True)
        every = [self._steps(j, plan.optimizer.optimizer) for j, plan in enumerate(plans)]
        self.counts.copy_(torch.stack(every[0]))
        for plan, noise in zip(plans, self.ensemble.noise or [], strict=True):
            noise.start(plan.batches[0])
        recorded.run()
        torch._foreach_add_([step for steps in every for step in steps], sum(b.steps for b in plans[0].batches))
        return recorded.names, recorded.values.clone()

    def _stack(self, adams: Sequence[Optimizer]) -> None:
        """The moments of all jobs become rows of the same tensors, and are saved as they were."""
        for name in KEPT:
            self.moments.append([])
            for same in self.ensemble.own:
                states = [adam.state[p] for adam, p in zip(adams, same, strict=True)]
                self.moments[-1].append(torch.stack([state[name] for state in states]))
                for state, row in zip(states, self.moments[-1][-1].unbind(), strict=True):
                    state[name] = row
        for adam in adams:
            adam.register_state_dict_post_hook(_copied)
        self.counts = torch.stack(self._steps(0, adams[0]))

    def _steps(self, j: int, adam: Optimizer) -> list[Tensor]:
        """How many steps each parameter of a job has made."""
        return [adam.state[same[j]]["step"] for same in self.ensemble.own]


def _together(plans: Sequence[Plan], part: str, k: int) -> Tensor:
    return torch.stack([getattr(plan.batches[k], part) for plan in plans])


def _kinds(plan: Plan) -> Hashable:
    return tuple(map(kind, plan.batches))


def _place(lit: LitVAE, path: str) -> Place:
    module, name = place(lit, path)
    return next(i for i, each in enumerate(modules(lit)) if each is module), name


def _add(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other


def _copied(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """torch saves all of the memory of which a tensor is a part; here that would be the moments of all jobs."""
    state["state"] = {i: {name: value.clone() for name, value in own.items()} for i, own in state["state"].items()}
