"""The training step of a minibatch as a recorded graph: one launch, in place of one for each of its operations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from vae_lightning import noise
from vae_lightning.data.loader import Minibatch
from vae_lightning.errors import NonFiniteError, first_line
from vae_lightning.numbers import Numbers
from vae_lightning.step import Step
from vae_lightning.synchronisation import first_wait

if TYPE_CHECKING:
    from vae_lightning.lit import LitVAE

log = logging.getLogger("vae_lightning")
T = TypeVar("T")
WARM_UP = 3  # minibatches of a kind that are computed operation by operation, which settles what is settled once


class Recorder(Protocol):
    """What can launch again what some work has launched."""

    def warm_up(self, work: Callable[[], T]) -> T:
        """Do `work` where it will be recorded."""

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """What `work` returns, and what fills its tensors; nothing of it need be done before that is called."""


@dataclass(frozen=True)
class Recorded:
    """A step in memory that stays where it is: what goes in, what comes out, and what runs it."""

    x: Tensor
    y: Tensor
    values: dict[str, Tensor]  # the loss and its terms
    gradients: list[Tensor | None]  # of each parameter, afterwards
    run: Callable[[], None]


class GraphStep(Step):
    """Records the step of each kind of minibatch, and runs the recording from then on.

    A kind is a shape, a weight and a place among those whose gradients are added. The arithmetic is the same before
    and after: annealed values and learning rates are tensors throughout, so that a run that was resumed, and warms up
    again, gets the same numbers. What cannot be recorded is said once, and goes on operation by operation. The values
    that it returns are overwritten by the next step.

    In either case the device is asked for nothing but, every `log_every_n_steps`, whether all losses were finite.

    Args:
        recorder: `OnCard` but in tests.
        step: makes the gradient and the update.
        recording: false, to go on operation by operation from the start.
    """

    def __init__(self, recorder: Recorder, step: Step, recording: bool = True) -> None:
        self.recorder, self.step, self.recording = recorder, step, recording
        self.seen, self.recorded = Counter[Hashable](), dict[Hashable, Recorded]()
        self.pending = False  # whether there are gradients that wait for more
        self.numbers: Numbers | None = None
        self.gradients: list[Tensor] = []  # those that wait, where they stay

    def __call__(self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer) -> dict[str, Tensor]:
        self.numbers = self.numbers or Numbers(lit, optimizer.optimizer)
        kind = (batch.x.shape, batch.x.dtype, batch.x.stride(), batch.weight, batch.steps, self.pending)
        self.seen[kind] += self.recording
        if kind not in self.recorded and self.recording and self.seen[kind] > WARM_UP:
            with self.numbers.used(lit, optimizer.optimizer):
                self._record(lit, batch, optimizer, kind)
        if kind in self.recorded:
            self.numbers.refresh(lit, optimizer.optimizer)
            values = self._run(lit, batch, optimizer, self.recorded[kind])
        else:
            with self.numbers.used(lit, optimizer.optimizer):
                values = self._eager(lit, batch, optimizer, watched=self.seen[kind] == WARM_UP)
        self.pending = not batch.steps
        if batch.steps and lit.global_step % lit.log_every == 0:
            self.check(lit, values)
        return values

    def check(self, lit: LitVAE, values: dict[str, Tensor] | None = None) -> None:
        """
        Raises:
            NonFiniteError: a loss since the last call was not a finite number; nothing was updated from then on.
        """
        if self.numbers is None or self.numbers.finite:
            return
        rows = [dict(zip(lit.meter.names, row, strict=True)) for row in lit.meter.rows]
        for row in [*rows, *([values] if values else [])]:
            lit.refuse_non_finite(row)
        raise NonFiniteError(f"a loss before step {lit.global_step + 1} was not a finite number")

    def _work(self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer) -> dict[str, Tensor]:
        assert self.numbers is not None
        values = self.step.gradient(lit, batch)
        self.numbers.finite.look(values["loss"].detach())
        if batch.steps:
            self.step.update(lit, optimizer)
        return {name: value.detach() for name, value in values.items()}

    def _eager(self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer, watched: bool) -> dict[str, Tensor]:
        if not self.recording:
            return self._work(lit, batch, optimizer)
        if not watched:
            return self.recorder.warm_up(lambda: self._work(lit, batch, optimizer))
        values, why = self.recorder.warm_up(lambda: first_wait(lambda: self._work(lit, batch, optimizer)))
        if why:
            self._give_up(why)
        return values

    def _give_up(self, why: str) -> None:
        self.recording = False
        log.warning("accelerator.graph=true: this step cannot be recorded (%s); going on without", why)

    def _record(self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer, kind: Hashable) -> None:
        x, y = batch.x.clone(), batch.y.clone()
        static, first = batch._replace(x=x, y=y), not self.pending
        if self.pending or not batch.steps:
            self._gather(lit)
        before = [p.grad for p in lit.trained]

        def work() -> dict[str, Tensor]:
            values = self._work(lit, static, optimizer)
            if first and not batch.steps:
                self._gather(lit)
            return values

        noise.reseed(lit.device, lit.seed, noise.TRAIN, batch.number, lit.global_rank)
        try:
            with _uncounted(optimizer):
                values, run = self.recorder.record(work)
            after = [p.grad for p in lit.trained]
            if any(g is not None and not any(g is own for own in self.gradients) for g in after):
                raise RuntimeError("a parameter has a gradient from some minibatches only")
        except Exception as error:  # torch says what it cannot do by many kinds
            self._give_up(first_line(error) if str(error) else type(error).__name__)
        else:
            self.recorded[kind] = Recorded(x, y, values, after, run)
        for parameter, gradient in zip(lit.trained, before, strict=True):
            parameter.grad = gradient

    def _gather(self, lit: LitVAE) -> None:
        """Bring the gradients to where they stay from one minibatch to the next."""
        if not self.gradients:
            self.gradients = [torch.zeros_like(p) for p in lit.trained]
        for parameter, own in zip(lit.trained, self.gradients, strict=True):
            if parameter.grad is not None and parameter.grad is not own:
                own.copy_(parameter.grad)
                parameter.grad = own

    def _run(
        self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer, recorded: Recorded
    ) -> dict[str, Tensor]:
        recorded.x.copy_(batch.x)
        recorded.y.copy_(batch.y)
        if self.pending:
            self._gather(lit)
        noise.reseed(lit.device, lit.seed, noise.TRAIN, batch.number, lit.global_rank)
        recorded.run()
        for parameter, gradient in zip(lit.trained, recorded.gradients, strict=True):
            parameter.grad = gradient
        if batch.steps:  # what Lightning counts
            optimizer._on_before_step()
            optimizer._on_after_step()
        return recorded.values


@contextmanager
def _uncounted(optimizer: LightningOptimizer) -> Iterator[None]:
    """Inside, Lightning counts no step: what is recorded is not done."""
    count = optimizer._on_before_step, optimizer._on_after_step
    optimizer._on_before_step = optimizer._on_after_step = lambda: None
    try:
        yield
    finally:
        optimizer._on_before_step, optimizer._on_after_step = count
