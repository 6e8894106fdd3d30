"""p(z) = sum_k w_k N(mean_k, diag(sigma_k^2)), learned."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily
from torch.types import _size

from vae_lightning.distribution.normal import Normal
from vae_lightning.schema import Count

TRAITS = {"space": "real", "learned": True}


class Components(MixtureSameFamily):
    """A mixture that is drawn from without a question to the device."""

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, *event). The component is the first arrival of K exponential clocks: the Gumbel-max trick."""
        with torch.no_grad():
            each = self.component_distribution.sample(sample_shape)  # (*sample_shape, K, *event)
            logits = self.mixture_distribution.logits
            clocks = torch.empty((*sample_shape, *logits.shape), dtype=logits.dtype, device=logits.device)
            chosen = (logits - clocks.exponential_().log()).argmax(-1)
            chosen = chosen.view(*chosen.shape, *[1] * (1 + len(self.event_shape)))
            return each.take_along_dim(chosen, len(sample_shape)).squeeze(len(sample_shape))


class Mixture(nn.Module):
    """A mixture of normal distributions that is trained together with the rest.

    Tomczak and Welling (2018), arXiv:1705.07120, section 4 and table 2, "MoG".

    >>> p = Mixture(latent_shape=(2,), components=3)(torch.zeros(5, 0))
    >>> p.batch_shape, p.sample((4,)).shape
    (torch.Size([]), torch.Size([4, 2]))

    Args:
        latent_shape: (D,).
        components: K.
    """

    def __init__(self, latent_shape: tuple[int, ...], components: Count = 10) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, *latent_shape))
        self.log_scale = nn.Parameter(torch.zeros(components, *latent_shape))

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), event (D,): the same for every context."""
        components = Independent(Normal(self.mean, self.log_scale.exp()), self.mean.dim() - 1)
        return Components(Categorical(logits=self.logits), components)
