"""p(z): a normal distribution through a learned normalising flow."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, distributions, nn

from vae_lightning.distribution.flow import flows
from vae_lightning.schema import Count

TRAITS = {"space": "real", "learned": True}


class Flow(nn.Module):
    """A flow prior; a conditional model gives it its context.

    `realnvp`: Dinh et al. (2017), arXiv:1605.08803, eq. 4-8. `maf`: Papamakarios et al. (2017), arXiv:1705.07057,
    eq. 3-5. `nsf`: Durkan et al. (2019), arXiv:1906.04032. As a prior: Chen et al. (2017), arXiv:1611.02731, eq. 12.

    >>> import torch
    >>> p = Flow(latent_shape=(2,), n_context=0)(torch.zeros(5, 0))
    >>> p.batch_shape, p.sample((4,)).shape
    (torch.Size([]), torch.Size([4, 2]))

    Args:
        latent_shape: (D,).
        n_context: width of the context.
        kind: `maf` has the fastest density and the slowest samples, D passes; `realnvp` is fast both ways.
        transforms: how many maps.
        hidden: widths of their networks.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        n_context: int,
        kind: Literal["maf", "realnvp", "nsf"] = "realnvp",
        transforms: Count = 4,
        hidden: list[Count] = [64, 64],  # noqa: B006
    ) -> None:
        super().__init__()
        family = {"maf": flows.MAF, "realnvp": flows.RealNVP, "nsf": flows.NSF}[kind]
        self.flow = family(latent_shape[0], n_context, transforms=transforms, hidden_features=hidden)

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (), or (B,) if C > 0, event (D,)."""
        return self.flow(c if c.shape[-1] else None)
