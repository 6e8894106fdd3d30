"""The step of torch's fused Adam on the processor, without what torch does around it in each step."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer


def go_straight(optimizer: Optimizer) -> None:
    """Has a fused Adam of one kind of parameters on the processor step with fewer questions, to the same bits.

    torch notes each step for its profiler, sorts the parameters by device and asks whether somebody compiles. Of a
    small network's step that is a twentieth. Who hooks a step, or could refuse it, gets torch's own.
    """
    groups = optimizer.param_groups
    kinds = {(p.device.type, p.dtype) for group in groups for p in group["params"]}
    fused = all(group.get("fused") for group in groups)
    if type(optimizer) in (Adam, AdamW) and fused and len(kinds) == 1 and next(iter(kinds))[0] == "cpu":
        optimizer.step = MethodType(_step, optimizer)  # type: ignore[method-assign]


def _step(optimizer: Adam, closure: Callable[[], Any] | None = None) -> Any:
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if closure is not None or hooks or hasattr(optimizer, "found_inf"):
        return type(optimizer).step(optimizer, closure)
    with torch.no_grad():
        for group in optimizer.param_groups:
            _update(optimizer, group)


def _update(optimizer: Adam, group: dict[str, Any]) -> None:
    lists: list[list[Tensor]] = [[] for _ in range(6)]  # parameters, gradients, averages, counts of steps
    optimizer._init_group(group, *lists)
    if not lists[0]:
        return
    torch._foreach_add_(lists[-1], 1)
    beta1, beta2 = group["betas"]
    kernel = torch._fused_adamw_ if isinstance(optimizer, AdamW) else torch._fused_adam_
    kernel(
        *lists,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=group["amsgrad"],
        maximize=group["maximize"],
    )
