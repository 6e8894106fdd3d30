"""What happens to minibatches in training: the gradient of each, and the step of the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from vae_lightning import noise, signals
from vae_lightning.data.loader import Chunk, Minibatch
from vae_lightning.denormal import EVERY, forget_traces

if TYPE_CHECKING:
    from vae_lightning.lit import LitVAE


class Step:
    """Operation by operation, as torch does it."""

    observable = True  # a dispatch mode sees all operations
    behind = False  # whether the curves are told later than they could be, so that nobody waits for a card

    def chunk(self, lit: LitVAE, chunk: Iterable[Minibatch], optimizer: LightningOptimizer) -> int:
        """A step of the optimiser for each minibatch, until somebody asks to end; says how many images there were."""
        images = 0
        for batch in chunk:
            lit.begin(batch)
            lit.end(batch, self(lit, batch, optimizer))
            images += batch.size
            if signals.asked() and batch.steps and lit.trainer.world_size == 1 and isinstance(chunk, Chunk):
                chunk.cut()
                break
        return images

    def __call__(self, lit: LitVAE, batch: Minibatch, optimizer: LightningOptimizer) -> dict[str, Tensor]:
        """The loss and its terms, in nats per image, after the gradient was added and, if it is time, used."""
        self.draw(lit, batch)
        values = self.gradient(lit, batch)
        lit.refuse_non_finite(values)
        if batch.steps:
            lit.refuse_gradient(values)
            self.update(lit, optimizer)
        return values

    def draw(self, lit: LitVAE, batch: Minibatch) -> None:
        """Starts the noise of a minibatch, which only the minibatch decides."""
        noise.reseed(lit.device, lit.seed, noise.TRAIN, batch.number, lit.global_rank)

    def gradient(self, lit: LitVAE, batch: Minibatch) -> dict[str, Tensor]:
        """Adds the gradient of a minibatch to that of the parameters."""
        values = lit.values(batch)
        loss = values["loss"]
        lit.manual_backward(loss if batch.weight == 1.0 else loss * batch.weight)
        return values

    def update(self, lit: LitVAE, optimizer: LightningOptimizer) -> None:
        """Moves the parameters, and forgets the gradient."""
        optimizer.step()
        if lit.device.type == "cpu" and lit.global_step % EVERY == 0:
            forget_traces(optimizer.optimizer)
        for parameter in lit.trained:  # what zero_grad does, without its record for the profiler
            parameter.grad = None


make: ContextVar[Callable[[], Step]] = ContextVar("make", default=Step)  # who trains several runs at once says another
