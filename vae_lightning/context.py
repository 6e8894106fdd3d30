"""What the networks see beside the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def one_hot(y: Tensor, n_context: int) -> Tensor:
    """Labels (B,) -> context (B, n_context): one-hot, zeros for a missing label (-1), or of no width.

    >>> one_hot(torch.tensor([1, -1]), 2)
    tensor([[0., 1.],
            [0., 0.]])
    """
    dtype = torch.get_default_dtype()
    if not n_context:
        return torch.zeros(len(y), 0, dtype=dtype, device=y.device)
    return F.one_hot(y.clamp(min=0), n_context).to(dtype) * (y >= 0).unsqueeze(1)
