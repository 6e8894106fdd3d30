"""Mean and spread of latents."""

from __future__ import annotations

from torch import Tensor


def standard(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of latents (N, D); 1 for a number that never changes.

    >>> import torch
    >>> standard(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    (tensor([2., 7.]), tensor([1., 1.]))
    """
    std = z.std(0, correction=0)
    return z.mean(0), std.where(std > 0, std.new_ones(()))
