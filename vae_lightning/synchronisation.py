"""Which operations make the processor wait for the device, and so can be no part of a recorded step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {
    "_local_scalar_dense": "the processor asks for a number: item(), tolist() or an `if` on a tensor",
    "is_nonzero": "the processor asks for a number: an `if` on a tensor",
    "equal": "the processor asks whether two tensors are equal",
    "lift_fresh": "a tensor is made from the processor's numbers",
    "nonzero": "the shape of a result depends on its values",
    "masked_select": "the shape of a result depends on its values",
    "_unique": "the shape of a result depends on its values",
    "_unique2": "the shape of a result depends on its values",
    "unique_dim": "the shape of a result depends on its values",
    "unique_consecutive": "the shape of a result depends on its values",
    "repeat_interleave.Tensor": "the shape of a result depends on its values",
    "bincount": "the shape of a result depends on its values",
    "multinomial": "the processor asks whether these are probabilities",
    "normal.Tensor_Tensor": "the processor asks whether all standard deviations are positive",
    "normal.float_Tensor": "the processor asks whether all standard deviations are positive",
}


class Waits(TorchDispatchMode):
    """Inside, `found` collects what makes the processor wait for a GPU, in words; `refuse` raises it instead.

    Everything is found on a processor too, although nothing waits there: what torch does in an operation's inside is
    known, see `WAITS`.

    >>> with Waits() as waits:
    ...     total = torch.ones(3).sum()
    >>> waits.found
    []
    >>> with Waits() as waits:
    ...     bool(total > 2)
    True
    >>> waits.found
    ['the processor asks for a number: item(), tolist() or an `if` on a tensor (aten._local_scalar_dense)']
    """

    def __init__(self, refuse: bool = False) -> None:
        super().__init__()
        self.refuse, self.found = refuse, list[str]()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        why = waits(function, args)
        if why and self.refuse:
            raise RuntimeError(why)
        if why and why not in self.found:
            self.found.append(why)
        return function(*args, **(kwargs or {}))


def waits(function: Any, args: Sequence[Any]) -> str | None:
    """Why the processor would wait for a GPU in this call of an operation, or None."""
    name = function.overloadpacket.__name__
    why = WAITS.get(name) or WAITS.get(f"{name}.{function._overloadname}")
    if name in ("index", "index_put", "index_put_") and any(_mask(index) for index in args[1]):
        why = "a mask chooses: the shape of a result depends on its values"
    if name in ("_to_copy", "copy_") and len({leaf.device for leaf in tree_leaves(args) if torch.is_tensor(leaf)}) > 1:
        why = "a tensor goes from one device to another"
    return f"{why} (aten.{name})" if why else None


def _mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def first_wait(work: Callable[[], Any]) -> tuple[Any, str | None]:
    """What `work` returns, and the first reason why it could not be recorded."""
    with Waits() as mode:
        result = work()
    return result, mode.found[0] if mode.found else None
