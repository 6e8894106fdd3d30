"""Whether all losses so far were finite, kept on the device: to ask after every step makes the processor wait."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vae_lightning.errors import NonFiniteError


class Finite:
    """Remembers a loss that was no finite number; a fused optimiser given `refused` then makes no step any more.

    >>> finite = Finite(torch.device("cpu"), torch.float32)
    >>> for loss in (1.0, float("inf"), 1.0):
    ...     finite.look(torch.tensor(loss))
    >>> finite.refused.item(), bool(finite)
    (1.0, False)
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.sum = torch.zeros((), dtype=dtype, device=device)  # 0, or NaN from a bad loss on
        self.refused = torch.zeros((), dtype=torch.float32, device=device)  # 0 or 1: what `found_inf` is to torch

    @torch.no_grad()
    def look(self, loss: Tensor) -> None:
        """Two operations on the device, and no question."""
        self.sum.add_(loss, alpha=0)
        torch.ne(self.sum, self.sum, out=self.refused)

    def __bool__(self) -> bool:
        return not self.refused.item()


def refused(when: str, values: Mapping[str, float], settings: Mapping[str, float]) -> NonFiniteError:
    """What is to be raised: the loss and its terms, and with which numbers they came about."""
    terms = ", ".join(f"{name}={value:g}" for name, value in values.items() if name != "loss")
    said = ", ".join(f"{path}={value:g}" for path, value in settings.items())
    return NonFiniteError(
        f"{when}: the loss is {values['loss']} ({terms}) with {said}. "
        "The weights were not updated, and no checkpoint has seen it. A lower optimizer.lr, "
        "trainer.gradient_clip_val=1 or posterior.scale=softplus may help; debug=true finds the operation"
    )
