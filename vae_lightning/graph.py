"""The training steps of some minibatches as a recorded graph: one launch, in place of one for each operation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from vae_lightning.data.loader import Minibatch
from vae_lightning.errors import first_line
from vae_lightning.finite import Finite, norm
from vae_lightning.meter import Point
from vae_lightning.numbers import Now, Numbers
from vae_lightning.step import Step
from vae_lightning.synchronisation import first_wait

if TYPE_CHECKING:
    from vae_lightning.lit import LitVAE

log = logging.getLogger("vae_lightning")
T = TypeVar("T")
WARM_UP = (
    2  # minibatches that are computed operation by operation, which settles what is settled once; one of each kind
)


class Noise(Protocol):
    """The random numbers of a run."""

    def learn(self, work: Callable[[], object]) -> None:
        """Learn from the gradient of a minibatch, which is forgotten, how much it draws."""

    def start(self, batch: Minibatch) -> None:
        """Go to the noise of a minibatch; in a recording, of each minibatch that will be in its place."""

    def draw(self, call: Callable[[], T]) -> T:
        """What `call` gives when it draws from here, where several runs are computed in turns."""


class Recorder(Protocol):
    """What can launch again what some work has launched."""

    def noise(self, lit: LitVAE, own: bool = False) -> Noise:
        """That of a run; its `own` if several are computed in turns."""

    def warm_up(self, work: Callable[[], T]) -> T:
        """Do `work` where it will be recorded."""

    def record(self, work: Callable[[], T], streams: Sequence[Any] = ()) -> tuple[T, Callable[[], None]]:
        """What `work` returns, and what fills its tensors; nothing of it need be done before that is called.

        Args:
            work: is to be recorded.
            streams: what it draws from, if that are several runs' own.
        """


@dataclass(frozen=True)
class Recorded:
    """The steps of some minibatches in memory that stays where it is: what goes in, what comes out, what runs them."""

    batches: list[Minibatch]
    numbers: Numbers
    names: list[str]  # of the loss and its terms
    values: Tensor  # (minibatches, names)
    run: Callable[[], None]


class GraphStep(Step):
    """Records the steps of minibatches that come together, and runs the recording from then on.

    Minibatches are alike in shape, weight, and whether the optimiser steps after them. The arithmetic is the same
    before and after: annealed values and learning rates are tensors throughout, so that a run that was resumed, and
    warms up again, gets the same numbers. What cannot be recorded is said once, and goes on operation by operation.

    In either case the device is asked for nothing: the points of the curves, and whether losses were finite, are read
    when they have come by themselves, at the end of an epoch at the latest.

    Args:
        recorder: `OnCard` but in tests.
        step: makes the gradient and the update.
        recording: false, to go on operation by operation from the start.
    """

    behind = True

    def __init__(self, recorder: Recorder, step: Step, recording: bool = True) -> None:
        self.recorder, self.step, self.recording = recorder, step, recording
        self.seen, self.recorded = Counter[Hashable](), dict[Hashable, Recorded]()
        self.finite: Finite | None = None
        self.noise: Noise | None = None
        self.numbers: Numbers | None = None  # of a minibatch that is computed operation by operation

    def chunk(self, lit: LitVAE, chunk: Iterable[Minibatch], optimizer: LightningOptimizer) -> int:
        batches = list(chunk)
        kinds = tuple(map(kind, batches))
        if self.numbers is None:
            self._prepare(lit, batches[0], optimizer)
        if self.recording and kinds not in self.recorded and warm(self.seen, kinds):
            self._record(lit, batches, optimizer, kinds)
        if kinds in self.recorded:
            self._run(lit, batches, optimizer, self.recorded[kinds])
            return sum(batch.size for batch in batches)
        lit.tell(wait=False)
        return super().chunk(lit, batches, optimizer)

    def __call__(self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer) -> dict[str, Tensor]:
        """As a recording does it, but operation by operation."""
        assert self.numbers is not None
        self.seen[kind(batch)] += 1
        self.numbers.write([Now.of(lit, optimizer.optimizer)])

        def work() -> dict[str, Tensor]:
            assert self.numbers is not None
            return self._work(lit, batch, optimizer, self.numbers, 0)

        if not self.recording:
            return work()
        if self.seen.total() != WARM_UP or not self.step.observable:
            return self.recorder.warm_up(work)
        values, why = self.recorder.warm_up(lambda: first_wait(work))
        if why:
            self._give_up(why)
        return values

    def _prepare(self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer) -> None:
        lit.begin(batch)
        device = lit.trained[0].device
        for state in optimizer.optimizer.state.values():  # a checkpoint's counts of steps may lie with the processor
            state["step"] = state["step"].to(device)
        self.finite = Finite(device, lit.trained[0].dtype)
        self.numbers = Numbers(lit, optimizer.optimizer, self.finite, 1)
        self.numbers.write([Now.of(lit, optimizer.optimizer)])
        self.noise = self.recorder.noise(lit)
        buffers = [buffer.clone() for buffer in lit.buffers()]
        with self.numbers.used(lit, optimizer.optimizer, 0):
            self.noise.learn(lambda: self.recorder.warm_up(lambda: self.step.gradient(lit, batch)))
        for parameter in lit.trained:
            parameter.grad = None
        for buffer, before in zip(lit.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _work(
        self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer, numbers: Numbers, k: int
    ) -> dict[str, Tensor]:
        assert self.finite is not None
        assert self.noise is not None
        with numbers.used(lit, optimizer.optimizer, k):
            self.noise.start(batch)
            values = self.step.gradient(lit, batch)
            self.finite.look(values["loss"].detach())
            if batch.steps:
                self.finite.look(norm(lit.trained))
                self.step.update(lit, optimizer)
            values["loss"] = values["loss"] + self.finite.sum  # whoever reads it hears of the gradient too
        return {name: value.detach() for name, value in values.items()}

    def _give_up(self, why: str) -> None:
        self.recording = False
        log.warning("accelerator.graph=true: this step cannot be recorded (%s); going on without", why)

    def _record(
        self, lit: LitVAE, batches: Sequence[Minibatch], optimizer: LightningOptimizer, kinds: Hashable
    ) -> None:
        assert self.finite is not None
        assert self.noise is not None
        static = [batch._replace(x=batch.x.clone(), y=batch.y.clone()) for batch in batches]
        numbers = Numbers(lit, optimizer.optimizer, self.finite, len(batches))
        self.noise.start(batches[0])

        def work() -> tuple[list[str], Tensor]:
            rows = [self._work(lit, batch, optimizer, numbers, k) for k, batch in enumerate(static)]
            return list(rows[0]), torch.stack([value for row in rows for value in row.values()]).view(len(rows), -1)

        try:
            with _uncounted(optimizer):
                (names, values), run = self.recorder.record(work)
            if any(p.grad is not None for p in lit.trained):
                raise RuntimeError("a minibatch leaves its gradient to one that comes later")
        except Exception as error:  # torch says what it cannot do by many kinds
            self._give_up(first_line(error) if str(error) else type(error).__name__)
            for parameter in lit.trained:
                parameter.grad = None
        else:
            self.recorded[kinds] = Recorded(static, numbers, names, values, run)

    def _run(
        self, lit: LitVAE, batches: Sequence[Minibatch], optimizer: LightningOptimizer, recorded: Recorded
    ) -> None:
        assert self.noise is not None
        for part in ("x", "y"):
            torch._foreach_copy_([getattr(b, part) for b in recorded.batches], [getattr(b, part) for b in batches])
        numbers, points = ahead(lit, batches, optimizer)
        recorded.numbers.write(numbers)
        self.noise.start(batches[0])
        recorded.run()
        afterwards(lit, batches, points, recorded.names, recorded.values.clone())


def ahead(
    lit: LitVAE, batches: Sequence[Minibatch], optimizer: LightningOptimizer
) -> tuple[list[Now], list[Point | None]]:
    """What changes with time goes on over some minibatches that are about to be launched together."""
    numbers, points = list[Now](), list[Point | None]()
    for batch in batches:
        lit.begin(batch)
        numbers.append(Now.of(lit, optimizer.optimizer))
        if batch.steps:  # what Lightning counts
            optimizer._on_before_step()
            optimizer._on_after_step()
        points.append(lit.point(batch))
        lit.schedule(batch)
    return numbers, points


def afterwards(
    lit: LitVAE, batches: Sequence[Minibatch], points: Sequence[Point | None], names: list[str], values: Tensor
) -> None:
    """They have been launched: their values (minibatches, names) belong to the curves, and what has come is told."""
    lit.tell(wait=False)
    for batch, row, point in zip(batches, values.unbind(), points, strict=True):
        lit.add(names, row, batch, point)


def warm(seen: Counter[Hashable], kinds: Iterable[Hashable]) -> bool:
    """Whether enough minibatches were computed to record such ones.

    >>> warm(Counter(a=1, b=1), ["a", "b"]), warm(Counter(a=5), ["a", "b"])
    (True, False)
    """
    return seen.total() >= WARM_UP and all(seen[each] for each in kinds)


def kind(batch: Minibatch) -> Hashable:
    """What minibatches have in common that are recorded alike."""
    return batch.x.shape, batch.x.dtype, batch.x.stride(), batch.weight, batch.steps


@contextmanager
def _uncounted(optimizer: LightningOptimizer) -> Iterator[None]:
    """Inside, Lightning counts no step: what is recorded is not done."""
    count = optimizer._on_before_step, optimizer._on_after_step
    optimizer._on_before_step = optimizer._on_after_step = lambda: None
    try:
        yield
    finally:
        optimizer._on_before_step, optimizer._on_after_step = count
