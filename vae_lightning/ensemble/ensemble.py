"""The loss and the gradient of several jobs in one batched computation. Shapes: J jobs, B batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from vae_lightning import noise
from vae_lightning.data.loader import Minibatch
from vae_lightning.ensemble.batched import Batched
from vae_lightning.ensemble.draws import Draw, Draws, Stream
from vae_lightning.ensemble.spread import Place, Spread
from vae_lightning.graph import Noise
from vae_lightning.lit import LitVAE


class Values(nn.Module):
    """What a training module makes of a minibatch, for `functional_call`."""

    def __init__(self, lit: LitVAE) -> None:
        super().__init__()
        self.lit = lit

    def forward(self, batch: Minibatch) -> dict[str, Tensor]:
        return self.lit.values(batch)


class Ensemble:
    """Jobs whose parameters are rows of the same tensors (J, ...): they move as they did, with optimisers of their own.

    Args:
        lits: the training modules of the jobs, alike in everything but in numbers.
        noise: where each job draws from, if that is not settled by the number of a minibatch alone.
    """

    def __init__(self, lits: Sequence[LitVAE], noise: Sequence[Noise] | None = None) -> None:
        self.lits, self.values, self.noise = lits, Values(lits[0]), noise
        self.trained, self.fixed, self.own = {}, {}, list[list[nn.Parameter]]()
        self.rows: list[tuple[Tensor, int]] = []  # each tensor of a job, and where it lies
        for name, tensors in _by_name(lits).items():
            stack = torch.stack([tensor.detach() for tensor in tensors])
            for tensor, row in zip(tensors, stack, strict=True):
                tensor.data = row
                self.rows.append((tensor, row.data_ptr()))
            if tensors[0].requires_grad:
                self.trained[f"lit.{name}"] = stack.requires_grad_()
                self.own.append(tensors)  # type: ignore[arg-type]
            else:
                self.fixed[f"lit.{name}"] = stack
        for lit in lits:
            _save_no_more_than_its_own(lit)
        self.spread = Spread([modules(lit) for lit in lits])
        self.index = torch.arange(len(lits), device=lits[0].device)

    def whole(self) -> bool:
        """Whether the parameters of all jobs still lie where they were put."""
        return all(tensor.data_ptr() == place for tensor, place in self.rows)

    def gradient(self, batches: Sequence[Minibatch]) -> list[dict[str, Tensor]]:
        """The loss and its terms for each job; the gradients are added to those of the parameters.

        Args:
            batches: one for each job, of the same shape.
        """
        x, y = torch.stack([b.x for b in batches]), torch.stack([b.y for b in batches])
        numbers = self.spread.values(next(iter(self.trained.values())))
        found, gradients = self.compute(batches, x, y, numbers)
        for tensors, gradient in zip(self.own, gradients, strict=True):
            if gradient is not None:
                for parameter, row in zip(tensors, gradient.unbind(), strict=True):
                    parameter.grad = row if parameter.grad is None else parameter.grad.add_(row)
        each = {name: value.unbind() for name, value in found.items()}
        return [{name: rows[j] for name, rows in each.items()} for j in range(len(batches))]

    def compute(
        self, batches: Sequence[Minibatch], x: Tensor, y: Tensor, numbers: dict[Place, Tensor]
    ) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        """The loss and its terms, (J,) each, and the gradients of the stacked parameters.

        Args:
            batches: one for each job: its number, weight and size.
            x: their images (J, B, C, H, W).
            y: their labels (J, B).
            numbers: those in which the jobs differ, (J,) each.
        """
        one = partial(self._one, batches[0], self._streams(batches))
        found = vmap(one, randomness="error")(self.trained, self.fixed, x, y, numbers, self.index)
        loss = found["loss"]
        weights = [b.weight for b in batches]
        if any(weight != 1.0 for weight in weights):
            same = weights.count(weights[0]) == len(weights)  # as in a recording, which can make no tensor of numbers
            loss = loss * (weights[0] if same else loss.new_tensor(weights))
        gradients = torch.autograd.grad(loss.sum(), list(self.trained.values()), allow_unused=True)
        pairs = zip(self.trained.values(), gradients, strict=True)
        found = {name: value.detach() for name, value in found.items()}
        return found, [None if gradient is None else _like(stack, gradient) for stack, gradient in pairs]

    def _streams(self, batches: Sequence[Minibatch]) -> Sequence[Draw]:
        if self.noise is None:
            return [Stream(_start(lit, batch), lit.device) for lit, batch in zip(self.lits, batches, strict=True)]
        for stream, batch in zip(self.noise, batches, strict=True):
            stream.start(batch)
        return self.noise

    def _one(
        self,
        batch: Minibatch,
        streams: Sequence[Draw],
        trained: dict[str, Tensor],
        fixed: dict[str, Tensor],
        x: Tensor,
        y: Tensor,
        numbers: dict[Any, Tensor],
        index: Tensor,
    ) -> dict[str, Tensor]:
        """As one job does it."""
        with self.spread.put(numbers), Batched(), Draws(streams, index):
            return functional_call(self.values, {**trained, **fixed}, (batch._replace(x=x, y=y),))


def _like(stack: Tensor, gradient: Tensor) -> Tensor:
    """Laid out as its parameters are: a fused optimiser walks through the memory of both side by side."""
    return gradient if gradient.stride() == stack.stride() else torch.empty_like(stack).copy_(gradient)


def modules(lit: LitVAE) -> list[nn.Module]:
    """All of which the loss is made."""
    return [*lit.model.modules(), *lit.loss.modules()]


def _by_name(lits: Sequence[LitVAE]) -> dict[str, list[Tensor]]:
    """What is trained or saved; a buffer that is not saved is a constant, the same for all."""
    saved = lits[0].state_dict()
    named = [dict([*lit.named_parameters(), *lit.named_buffers()]) for lit in lits]
    return {name: [tensors[name] for tensors in named] for name in named[0] if name in saved}


def _start(lit: LitVAE, batch: Minibatch) -> Any:
    return partial(noise.reseed, lit.device, lit.seed, noise.TRAIN, batch.number, lit.global_rank)


def _save_no_more_than_its_own(lit: LitVAE) -> None:
    """torch saves all of the memory of which a tensor is a part; here that would be the weights of all jobs."""
    if not hasattr(lit, "saves_its_own"):
        lit.saves_its_own = lit.register_state_dict_post_hook(_copied)


def _copied(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name, value in state.items():
        if isinstance(value, Tensor):
            state[name] = value.clone()
