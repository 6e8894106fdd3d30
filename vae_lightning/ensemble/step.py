"""The step of a job that is one of several."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from vae_lightning import status
from vae_lightning.data.loader import Minibatch
from vae_lightning.ensemble.meeting import Asked, Leave
from vae_lightning.ensemble.recorded import Launch, Plan
from vae_lightning.ensemble.turns import Turns
from vae_lightning.graph import Noise, afterwards, ahead
from vae_lightning.step import Step

if TYPE_CHECKING:
    from vae_lightning.lit import LitVAE

log = logging.getLogger("vae_lightning")


class Shared(Step):
    """The gradient is computed together with that of the other jobs; the update is the job's own, unless the steps of
    all jobs are recorded as one.

    Args:
        turns: where the jobs wait for each other.
    """

    def __init__(self, turns: Turns) -> None:
        self.turns, self.alone = turns, False
        self.noise: Noise | None = None  # on a GPU

    def chunk(self, lit: LitVAE, chunk: Iterable[Minibatch], optimizer: LightningOptimizer) -> int:
        if self.alone or not self.behind:
            lit.tell(wait=False)
            return super().chunk(lit, chunk, optimizer)
        plan = Plan(lit, list(chunk), optimizer)
        if not self.turns.wait(plan):
            lit.tell(wait=False)
            return super().chunk(lit, plan.batches, optimizer)
        numbers, points = ahead(lit, plan.batches, optimizer)
        names, values = self.turns.wait(Launch(plan, numbers))
        afterwards(lit, plan.batches, points, names, values)
        return sum(batch.size for batch in plan.batches)

    def __deepcopy__(self, memo: dict[int, object]) -> Shared:
        """Who copies a training module, as the average of the weights does, has no turn of its own."""
        return self

    def gradient(self, lit: LitVAE, batch: Minibatch) -> dict[str, Tensor]:
        answer = None if self.alone else self.turns.wait(Asked(lit, batch))
        if isinstance(answer, Leave):
            self.alone, reason = True, answer.reason
            if reason is not None:
                log.warning("alone from step %d on: %s", lit.global_step + 1, reason)
                status.update(Path(lit.trainer.default_root_dir), alone=reason)
            answer = None
        return self._own(lit, batch) if answer is None else answer

    def _own(self, lit: LitVAE, batch: Minibatch) -> dict[str, Tensor]:
        """Computed alone; others may have drawn since the minibatch has begun."""
        if self.noise is None:
            self.draw(lit, batch)
            return super().gradient(lit, batch)
        self.noise.start(batch)
        return self.noise.draw(partial(super().gradient, lit, batch))
