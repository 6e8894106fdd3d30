"""What the networks see beside the image."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot(y: Tensor, n_context: int) -> Tensor:
    """Labels (B,) -> context (B, n_context): one-hot, zeros for a missing label (-1), or of no width.

    >>> one_hot(torch.tensor([1, -1]), 2)
    tensor([[0., 1.],
            [0., 0.]])
    """
    if n_context == 0:
        return torch.empty(len(y), 0, device=y.device)
    return (y.unsqueeze(1) == torch.arange(n_context, device=y.device)).to(torch.get_default_dtype())
