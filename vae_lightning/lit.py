"""The LightningModule: one step, logging, optimisers. It knows neither models nor losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from vae_lightning import noise, step
from vae_lightning.anneal import Anneal
from vae_lightning.context import one_hot
from vae_lightning.data.loader import Minibatch
from vae_lightning.errors import NonFiniteError
from vae_lightning.finite import norm, refused
from vae_lightning.gather import over
from vae_lightning.meter import Meter, Point
from vae_lightning.model.vae import VAE
from vae_lightning.precision import spare_questions
from vae_lightning.scheduler import Scheduler


class LitVAE(L.LightningModule):
    """Trains `model` with `loss`, several minibatches per call of Lightning.

    Lightning's work around a step takes longer than a small network's step itself, so a loader hands over several
    minibatches and this module takes one optimiser step for each (manual optimisation). Everything that happens per
    step happens per minibatch here: annealing, noise, clipping, schedulers, logging. How many they are changes
    nothing but the speed.

    Args:
        model: images and context to a Trace.
        loss: (model, x, c) to a scalar and its terms, in nats per image. Parameters that need a learning rate of their
            own are returned by its `parameter_groups()`, as torch's optimisers take them.
        optimizer: makes the optimiser of an iterable of parameters.
        scheduler: makes the scheduler of an optimiser.
        anneals: numbers that change with time; validation and test see their last values, so that epochs compare.
        seed: of all noise.
        gradient_clip_val: the largest norm of the gradient.
        log_every_n_steps: a point of the training curves is the mean over so many optimiser steps.
        record: what a checkpoint says of itself: plain primitives.
    """

    def __init__(
        self,
        model: VAE,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Scheduler],
        anneals: Sequence[Anneal] = (),
        seed: int = 0,
        gradient_clip_val: float | None = None,
        log_every_n_steps: int = 50,
        record: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss = model, loss
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.anneals, self.seed, self.log_every = anneals, seed, log_every_n_steps
        self.gradient_clip_val, self.record = gradient_clip_val, record or {}
        self.meter, self.evaluated = Meter(), Meter()  # of training; of validation or test
        self.annealed, self.step = dict[str, float](), step.make.get()()
        self.names, self.row = list[str](), torch.empty(0)  # what the last minibatch has come to
        self.complete = list[tuple[Point, Meter]]()  # points of the curves that no logger knows of

    # ---- training -------------------------------------------------------------------------------------------------
    def training_step(self, chunk: Iterable[Minibatch], _: int) -> dict[str, int]:
        """One optimiser step for each minibatch; says how many images there were."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        return {"images": self.step.chunk(self, chunk, optimizer)}

    def begin(self, batch: Minibatch) -> None:
        """What changes with time gets its value for a minibatch."""
        self._anneal(batch.epoch)

    def end(self, batch: Minibatch, values: dict[str, Tensor]) -> None:
        """The minibatch has come to `values`."""
        row = torch.stack([value.detach() for value in values.values()])
        self.add(list(values), row, batch, self.point(batch))
        self.schedule(batch)

    def point(self, batch: Minibatch) -> Point | None:
        """A point of the training curves, if it is time for one after this minibatch."""
        return self._point() if batch.steps and self.global_step % self.log_every == 0 else None

    def add(self, names: list[str], values: Tensor, batch: Minibatch, point: Point | None) -> None:
        """What a minibatch has come to, (names,), belongs to the curves, and makes `point` complete."""
        self.names, self.row = names, values
        self.meter.add(names, values, batch.size)
        if point is not None:
            self._complete(point)

    @property
    def latest(self) -> dict[str, float]:
        """What the last minibatch has come to, for who shows it; a card is waited for."""
        return dict(zip(self.names, self.row.tolist(), strict=True))

    def schedule(self, batch: Minibatch) -> None:
        """The learning rate moves, if it is time for that after this minibatch."""
        if batch.steps:
            self._schedule("step")

    def values(self, batch: Minibatch) -> dict[str, Tensor]:
        """The loss and its terms, in nats per image."""
        with over(batch.total):
            loss, terms = self.loss(self.model, batch.x, self.context(batch.y))
        return {"loss": loss, **terms}

    def context(self, y: Tensor) -> Tensor:
        """Labels (B,) -> context (B, n_context): one-hot, zeros for a missing label (-1), or of no width."""
        return one_hot(y, self.model.n_context)

    def _anneal(self, epoch: float) -> None:
        for anneal in self.anneals:
            value = anneal(epoch)
            if value is not None and value != self.annealed.get(anneal.path):
                self.annealed[anneal.path] = value
                anneal.apply(self, value)

    def refuse_non_finite(self, values: dict[str, Tensor]) -> None:
        """
        Raises:
            NonFiniteError: the loss is not a finite number; says what it was made of.
        """
        if not math.isfinite(values["loss"].item()):
            found = {name: value.item() for name, value in values.items()}
            raise refused(f"step {self.global_step + 1}", found, self._point().settings)

    def refuse_gradient(self, values: dict[str, Tensor]) -> None:
        """
        Raises:
            NonFiniteError: the gradient is not finite, and nobody scales it so that this is to be expected.
        """
        if not self.scaled and not math.isfinite(norm(self.trained).item()):
            found = {name: value.item() for name, value in values.items()}
            raise refused(f"step {self.global_step + 1}", found, self._point().settings, gradient=True)

    def check(self) -> None:
        """
        Raises:
            NonFiniteError: a loss so far was not a finite number.
        """
        self.tell()
        if self.meter.rows and not math.isfinite((found := self.meter.first_not_finite("loss"))["loss"]):
            raise refused(f"up to step {self.global_step}", found, self._point().settings)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.gradient_clip_val is not None:
            self.clip_gradients(optimizer, self.gradient_clip_val, "norm")

    def on_train_epoch_end(self) -> None:
        self._complete(self._point())
        self.tell()
        self._schedule("epoch")
        for logger in self.trainer.loggers:
            logger.save()

    def _point(self) -> Point:
        return Point(self.global_step, self.current_epoch, {"optimizer.lr": self._lr(), **self.annealed})

    def _complete(self, point: Point) -> None:
        meter, self.meter = self.meter, Meter()
        if meter.rows:
            self.complete.append((point, meter))
        if self.step.behind:
            meter.read()
        else:
            self.tell()

    def tell(self, wait: bool = True) -> None:
        """Complete points of the curves go to the loggers; without `wait` those that have come from the device.

        Raises:
            NonFiniteError: a loss was not a finite number.
        """
        while self.complete and (wait or self.complete[0][1].is_here()):
            point, meter = self.complete.pop(0)
            means = self._means(meter)
            if not math.isfinite(means["loss"]):
                raise refused(f"up to step {point.step}", meter.first_not_finite("loss"), point.settings)
            means |= {path.rpartition(".")[2]: value for path, value in point.settings.items()}
            self._to_loggers({f"train/{name}": v for name, v in {**means, "epoch": point.epoch}.items()}, point.step)

    # ---- validation and test ----------------------------------------------------------------------------------------
    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def _start_evaluation(self) -> None:
        self.evaluated = Meter()
        self._anneal(math.inf)

    def validation_step(self, chunk: Iterable[Minibatch], _: int) -> None:
        self._evaluate(chunk, noise.VAL)

    def test_step(self, chunk: Iterable[Minibatch], _: int) -> None:  # noqa: PT019
        self._evaluate(chunk, noise.TEST)

    def _evaluate(self, chunk: Iterable[Minibatch], stream: int) -> None:
        for batch in chunk:
            noise.reseed(self.device, self.seed, stream, batch.number, self.global_rank)
            values = self.values(batch)
            row = torch.stack([value.detach() for value in values.values()])
            self.evaluated.add(list(values), row, batch.size)

    def on_validation_epoch_end(self) -> None:
        means = self._finish_evaluation("val")
        self._schedule("validation", means["val/loss"])

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def _finish_evaluation(self, stage: str) -> dict[str, float]:
        means = {f"{stage}/{name}": value for name, value in self._means(self.evaluated).items()}
        if wrong := [name for name, value in means.items() if not math.isfinite(value)]:
            raise NonFiniteError(
                f"after step {self.global_step}: {', '.join(wrong)} not finite; no checkpoint was written"
            )
        self.log_dict(means, logger=False, batch_size=1, sync_dist=True)  # each process has the mean already
        self._to_loggers(means, self.global_step)
        return means

    # ---- shared -----------------------------------------------------------------------------------------------------
    def _means(self, meter: Meter) -> dict[str, float]:
        means = meter.means(lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum"))
        if self.bounds(means):  # the bound itself, whatever the loss weighs
            means["elbo"] = -(means["distortion"] + means["rate"])
            means["bits_per_dim"] = -means["elbo"] / math.prod(self.model.likelihood.shape) / math.log(2)
        return means

    def bounds(self, values: Mapping[str, Any]) -> bool:
        """Whether these terms are those of a bound on log p(x): not with an energy, not without a rate."""
        return self.model.likelihood.density and {"distortion", "rate"} <= values.keys()

    def _to_loggers(self, values: dict[str, float], step: int) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(values, step=step)

    def _lr(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _schedule(self, interval: str, *metric: Any) -> None:
        if interval == self.schedule_interval:
            self.trainer.lr_scheduler_configs[0].scheduler.step(*metric)

    def configure_optimizers(self) -> Any:
        self.trained = [p for p in [*self.model.parameters(), *self.loss.parameters()] if p.requires_grad]
        groups: list[dict[str, Any]] = getattr(self.loss, "parameter_groups", list)()
        apart = {id(p) for group in groups for p in group["params"]}
        rest = [p for p in self.trained if id(p) not in apart]
        optimizer = self.make_optimizer(parameters=[{"params": rest}, *groups])
        self.scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if self.device.type == "cpu":
            spare_questions(optimizer)
        scheduler, self.schedule_interval = self.make_scheduler(optimizer=optimizer)
        return [optimizer], [scheduler]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.tell()
        checkpoint["vae_lightning"] = self.record
        checkpoint["meter"] = self.meter.state_dict()
        metrics = self.trainer.callback_metrics.items()
        checkpoint["val"] = {k.removeprefix("val/"): float(v) for k, v in metrics if k.startswith("val/")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.meter.load_state_dict(checkpoint["meter"])
