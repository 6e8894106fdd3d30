"""Optimisers, in torch's fused form where the precision allows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vae_lightning.schema import Fraction, NonNegative, Positive

AT_ONCE = 36  # tensors that torch's fused kernel takes in one launch
BLOCK = 65_536  # numbers of a tensor that one multiprocessor works through there

Groups = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


class Moving(NamedTuple):
    """What a step of Adam is made of: a tensor of each for each parameter."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    first: list[Tensor]  # moments
    second: list[Tensor]
    steps: list[Tensor]  # how many there were


class Numbers(NamedTuple):
    """What a group of parameters is told."""

    lr: float | Tensor
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool  # from the gradient

    @classmethod
    def of(cls, group: dict[str, Any]) -> Numbers:
        names = ("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay")
        return cls(*(group[name] for name in names))


class FusedAdam(torch.optim.Adam):
    """torch's own, fused, for parameters of one type on one device: the same bits, with less around them.

    torch notes each step for its profiler, sorts the parameters by device and asks whether somebody compiles: of the
    step of a small network on the processor that is a twentieth. And on a GPU its kernel leaves most of the card idle
    if a network is small, unless it gets the parameters in pieces.

    `update` may be replaced by `plain`, compiled.
    """

    update: Callable[..., None]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for before in self._optimizer_step_pre_hooks.values():
            before(self, (), {})
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = Moving([], [], [], [], [])
            self._init_group(group, *moving[:4], [], moving.steps)
            if moving.parameters:
                self.update(moving, Numbers.of(group), getattr(self, "found_inf", None))
        for after in self._optimizer_step_post_hooks.values():
            after(self, (), {})
        return loss

    step.hooked = True  # type: ignore[attr-defined]  # torch is not to wrap it


def fused(
    moving: Moving,
    numbers: Numbers,
    found_inf: Tensor | None = None,
    size: int | None = None,
) -> None:
    """Adam's step by torch's kernel; none if `found_inf` is not 0.

    Args:
        moving: what is changed, in place.
        numbers: of the group of parameters.
        found_inf: (), float32.
        size: of the pieces that the kernel gets; by default as suits the device.
    """
    torch._foreach_add_(moving.steps, 1)
    if size is None:
        size = piece([p.numel() for p in moving.parameters]) if moving.parameters[0].is_cuda else BLOCK
    whole: Sequence[Sequence[Tensor]] = moving
    if size < BLOCK:
        whole = list(zip(*(each for tensors in zip(*moving, strict=True) for each in _cut(tensors, size)), strict=True))
    kernel: Any = torch._fused_adamw_ if numbers.decoupled else torch._fused_adam_
    parameters, gradients, first, second, counts = whole
    kernel(
        parameters,
        gradients,
        first,
        second,
        [],
        counts,
        lr=numbers.lr,
        beta1=numbers.betas[0],
        beta2=numbers.betas[1],
        weight_decay=numbers.weight_decay,
        eps=numbers.eps,
        amsgrad=False,
        maximize=False,
        found_inf=found_inf,
    )
    if found_inf is not None:
        torch._foreach_sub_(moving.steps, [found_inf] * len(moving.steps))


FusedAdam.update = staticmethod(fused)


def plain(
    moving: Moving,
    numbers: Numbers,
    found_inf: Tensor | None = None,
) -> None:
    """Adam's step in operations that a compiler makes one of; it asks not for `found_inf`."""
    parameters, gradients, first, second, steps = moving
    lr, betas, eps, weight_decay, decoupled = numbers
    torch._foreach_add_(steps, 1)
    t = steps[0]
    if weight_decay and decoupled:
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
    elif weight_decay:
        gradients = list(torch._foreach_add(gradients, parameters, alpha=weight_decay))
    torch._foreach_lerp_(first, gradients, 1 - betas[0])
    torch._foreach_mul_(second, betas[1])
    torch._foreach_addcmul_(second, gradients, gradients, 1 - betas[1])
    # 1 - beta^t without cancellation: a GPU takes longer for a power in float64 than for all the rest.
    root = (-torch.expm1(t * math.log(betas[1]))).sqrt().to(second[0].dtype)
    length = (lr / -torch.expm1(t * math.log(betas[0]))).to(second[0].dtype)
    below = torch._foreach_sqrt(second)
    torch._foreach_div_(below, root)
    torch._foreach_add_(below, eps)
    change = torch._foreach_div(first, below)
    torch._foreach_mul_(change, length)
    torch._foreach_sub_(parameters, change)


def piece(sizes: Sequence[int]) -> int:
    """The largest piece of tensors of these sizes: the smallest one with which all go into one launch.

    >>> piece([313_600, 400, 16_000, 40, 8_000, 400, 313_600, 784])
    21504
    >>> piece([10_000_000] * 9)
    65536
    """
    size = 1024
    while size < BLOCK and sum(-(-n // size) for n in sizes) > AT_ONCE:
        size += 1024
    return size


def _cut(tensors: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of a parameter, its gradient and its moments, each with the count of steps, which is the same for all."""
    *parts, count = tensors
    if not all(part.is_contiguous() for part in parts):
        return iter([tensors])
    return ((*each, count) for each in zip(*(part.view(-1).split(size) for part in parts), strict=True))


def _adam(parameters: Groups, fused: bool, *numbers: Any, decoupled: bool = False) -> torch.optim.Adam:
    groups: list[Any] = list(parameters)
    every = [p for group in groups for p in (group["params"] if isinstance(group, dict) else [group])]
    alike = len({(p.device, p.dtype) for p in every}) == 1
    kind = FusedAdam if fused and alike else torch.optim.Adam
    return kind(groups, *numbers, fused=fused, decoupled_weight_decay=decoupled)


def adam(
    parameters: Groups,
    fused: bool,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Adam:
    """Kingma and Ba (2015), arXiv:1412.6980, algorithm 1."""
    return _adam(parameters, fused, lr, tuple(betas), eps, weight_decay)


def adamw(
    parameters: Groups,
    fused: bool,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> torch.optim.Adam:
    """Loshchilov and Hutter (2019), arXiv:1711.05101, algorithm 2."""
    return _adam(parameters, fused, lr, tuple(betas), eps, weight_decay, decoupled=True)


def adamax(
    parameters: Groups,
    lr: Positive = 2e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Adamax:
    """Kingma and Ba (2015), arXiv:1412.6980, algorithm 2."""
    return torch.optim.Adamax(parameters, lr, (betas[0], betas[1]), eps, weight_decay)
