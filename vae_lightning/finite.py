"""Whether losses, gradients and weights are finite, with few questions to the device: each makes the processor wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vae_lightning.errors import NonFiniteError


class Finite:
    """Remembers a number that was not finite; a fused optimiser given `refused` then makes no step any more.

    >>> finite = Finite(torch.device("cpu"), torch.float32)
    >>> for loss in (1.0, float("inf"), 1.0):
    ...     finite.look(torch.tensor(loss))
    >>> finite.refused.item(), bool(finite)
    (1.0, False)
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.sum = torch.zeros((), dtype=dtype, device=device)  # 0, or NaN from a bad number on
        self.refused = torch.zeros((), dtype=torch.float32, device=device)  # 0 or 1: what `found_inf` is to torch

    @torch.no_grad()
    def look(self, number: Tensor) -> None:
        """Two operations on the device, and no question."""
        self.sum.add_(number, alpha=0)
        torch.ne(self.sum, self.sum, out=self.refused)

    def __bool__(self) -> bool:
        return not self.refused.item()


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first of these tensors that has a number which is not finite.

    Their sums tell, which take a tenth of the time of looking at each number, and are asked for once.

    >>> first_not_finite({"a": torch.ones(2), "b": torch.tensor([float("inf"), 1.0, -float("inf")])})
    'b'
    >>> first_not_finite({"a": torch.full((1000,), 3e38)})  # a sum that float32 could not hold
    """
    if not tensors:
        return None
    sums = torch.stack([tensor.sum(dtype=torch.float64) for tensor in tensors.values()])
    return next((name for name, finite in zip(tensors, sums.isfinite().tolist(), strict=True) if not finite), None)


def norm(parameters: Iterable[Tensor]) -> Tensor:
    """Of all their gradients, (): finite if every number of them is, and their squares do not overflow.

    >>> weight = torch.zeros(2, requires_grad=True)
    >>> weight.grad = torch.tensor([3.0, float("nan")])
    >>> norm([weight])
    tensor(nan)
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).sum() if gradients else torch.zeros(())


def refused(
    when: str, values: Mapping[str, float], settings: Mapping[str, float], gradient: bool = False
) -> NonFiniteError:
    """What is to be raised: the loss and its terms, and with which numbers they came about.

    Args:
        when: in the run.
        values: the loss and its terms.
        settings: by their keys.
        gradient: it is that, and not the loss.
    """
    terms = ", ".join(f"{name}={value:g}" for name, value in values.items() if name != "loss")
    said = ", ".join(f"{path}={value:g}" for path, value in settings.items())
    return NonFiniteError(
        f"{when}: {'the gradient is not finite, and ' * gradient}the loss is {values['loss']} ({terms}) with {said}. "
        "The weights were not updated, and no checkpoint has seen it. A lower optimizer.lr, "
        "trainer.gradient_clip_val=1 or posterior.scale=softplus may help; debug=true finds the operation"
    )
