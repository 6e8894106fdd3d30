"""p(z) = mean of q(z | u_k) over learned pseudo-inputs u_k."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, distributions, nn
from torch.distributions import Distribution, constraints
from torch.types import _size

from vae_lightning.schema import Count

TRAITS = {"space": "any", "learned": True, "borrowed": True}
NEEDS = {
    "posterior:density": ([True], "it averages densities of the posterior: say posterior=normal"),
    "posterior:strata": ([False], "it averages plain posteriors: say posterior=normal"),
    "model.order": (["top_down", None], "q(z2|x) must have a density: say model.order=top_down"),
}


class Average(Distribution):
    """The mixture, in equal parts, of the distributions in a batch (K,)."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, each: Distribution) -> None:
        self.each = each
        super().__init__(torch.Size(), each.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """In nats: value (*batch, *event) -> (*batch)."""
        dims = len(self.event_shape)
        each = self.each.log_prob(value.unsqueeze(-dims - 1))  # (*batch, K)
        return each.logsumexp(-1) - math.log(each.shape[-1])

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, *event), each from a posterior chosen at random."""
        n = torch.Size(sample_shape).numel()
        k = self.each.batch_shape[0]
        z = self.each.sample(torch.Size((n,)))
        chosen = z[torch.arange(n, device=z.device), torch.randint(k, (n,), device=z.device)]
        return chosen.reshape(*sample_shape, *self.event_shape)


class Vamp(nn.Module):
    """The variational mixture of posteriors. Tomczak and Welling (2018), arXiv:1705.07120, eq. 9.

    Pseudo-inputs start near the paper's N(0.05, 0.01) and are kept in [0, 1]. A conditional model learns a context
    for each of them, too.

    >>> from torch.distributions import Independent, Normal
    >>> p = Vamp((1, 2, 2), 0, lambda x, c: Independent(Normal(x.flatten(1), 1.0), 1), pseudo_inputs=3)
    >>> p(torch.zeros(5, 0)).sample((2,)).shape
    torch.Size([2, 4])

    Args:
        shape: (C, H, W) of an image.
        n_context: width of the context.
        infer: x, c -> q(z | x, c), the model's own.
        pseudo_inputs: K.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        n_context: int,
        infer: Callable[[Tensor, Tensor], Distribution],
        pseudo_inputs: Count = 500,
    ) -> None:
        super().__init__()
        self._infer = (infer,)  # in a tuple: borrowed, so that its parameters belong to the model alone
        self.inputs = nn.Parameter(0.05 + 0.01 * torch.randn(pseudo_inputs, *shape))
        self.contexts = nn.Parameter(torch.zeros(pseudo_inputs, n_context), requires_grad=n_context > 0)

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), event (*latent): the same for every context."""
        contexts = self.contexts.softmax(-1) if self.contexts.shape[1] else self.contexts
        return Average(self._infer[0](self.inputs.clamp(0, 1), contexts))
