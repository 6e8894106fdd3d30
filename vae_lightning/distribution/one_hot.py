"""One-hot vectors whose draws are relaxed where a gradient is asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical, RelaxedOneHotCategorical, register_kl
from torch.types import _size


class RelaxedOneHot(OneHotCategorical):
    """A categorical distribution over one-hot vectors (B, K). `sample` is exact; `rsample` is relaxed.

    Jang et al. (2017), arXiv:1611.01144, eq. 1 and 2; Maddison et al. (2017), arXiv:1611.00712, eq. 10.

    Args:
        temperature: of the relaxation; towards 0 the draws become one-hot.
        logits: (B, K).
        straight_through: draws are one-hot, and their gradient is that of the relaxed ones.
    """

    has_rsample = True

    def __init__(self, temperature: float | Tensor, logits: Tensor, straight_through: bool = False) -> None:
        self.temperature, self.straight_through = temperature, straight_through
        super().__init__(logits=logits)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """Points of the simplex, (*sample_shape, B, K)."""
        relaxed = RelaxedOneHotCategorical(self.temperature, logits=self.logits)  # type: ignore[arg-type]  # or a float
        soft = relaxed.rsample(sample_shape)
        if not self.straight_through:
            return soft
        hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
        return soft + (hard - soft).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """log q in nats, shape (*sample_shape, B).

        Raises:
            ValueError: `value` is a relaxed draw, which has no probability.
        """
        if value.requires_grad:
            raise ValueError("a relaxed draw has no probability under a categorical; its rate has a closed form")
        return super().log_prob(value)


@register_kl(RelaxedOneHot, OneHotCategorical)
def _kl_one_hot(q: RelaxedOneHot, p: OneHotCategorical) -> Tensor:
    """sum_k q_k log(q_k / p_k) in nats, shape (B,). Every probability is positive, as they come from logits."""
    return (q.probs * (q.logits - p.logits)).sum(-1)
