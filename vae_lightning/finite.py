"""Whether all losses so far were finite, kept on the device: to ask after every step makes the processor wait."""

from __future__ import annotations

import torch
from torch import Tensor


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
