"""q(z | x): a normal distribution, bent by a normalising flow."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, distributions, nn
from torch.distributions import Independent

from vae_lightning.distribution.flow import Planar, Pushforward, Radial, compose, flows
from vae_lightning.distribution.normal import Normal
from vae_lightning.schema import Count

TRAITS = {"space": "real", "rate": True, "density": True, "strata": False, "factorised": False}
NEEDS = {"prior:space": (["real", "any"], "its latents are real vectors: say prior=normal")}

MAPS: dict[str, type[Planar] | type[Radial]] = {"planar": Planar, "radial": Radial}


class Flow(nn.Module):
    """N(mean, diag(sigma^2)) through invertible maps that depend on x.

    `planar` and `radial`: the network gives the parameters of each map. Rezende and Mohamed (2015), arXiv:1505.05770,
    eq. 10 and 14. `iaf`: inverse autoregressive flow. Kingma et al. (2016), arXiv:1606.04934, eq. 9-10. `nsf`: neural
    spline flow, autoregressive. Durkan et al. (2019), arXiv:1906.04032. The last two see `features` numbers from the
    network, and run in their fast direction: draws and their densities take one pass.

    >>> import torch
    >>> q = Flow(latent_shape=(2,), kind="planar", transforms=3)(torch.zeros(5, 19))
    >>> z = q.rsample((4,))
    >>> z.shape, q.log_prob(z).shape
    (torch.Size([4, 5, 2]), torch.Size([4, 5]))

    Args:
        latent_shape: (D,).
        kind: which maps.
        transforms: how many.
        features: what `iaf` and `nsf` know of x, besides mean and variance of the normal distribution.
        hidden: widths of their networks.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        kind: Literal["planar", "radial", "iaf", "nsf"] = "iaf",
        transforms: Count = 2,
        features: Count = 16,
        hidden: list[Count] = [64, 64],  # noqa: B006
    ) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        (d,) = self.latent_shape
        if kind in MAPS:
            self.make = _Each(MAPS[kind], d, transforms)
            features = transforms * sum(MAPS[kind].sizes(d))
        else:
            family = flows.MAF if kind == "iaf" else flows.NSF
            self.make = family(d, context=features, transforms=transforms, hidden_features=hidden).transform
        self.sizes = [d, d, features]
        self.param_shape = (sum(self.sizes),)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., 2 D + features) -> q, batch (...), event (D,)."""
        mean, log_variance, features = params.split(self.sizes, -1)
        base = Independent(Normal(mean, (log_variance / 2).exp()), 1)
        return Pushforward(base, self.make(features))


class _Each(nn.Module):
    """Cuts the features into the parameters of each map."""

    def __init__(self, kind: type[Planar] | type[Radial], d: int, transforms: int) -> None:
        super().__init__()
        self.kind, self.transforms, self.sizes = kind, transforms, kind.sizes(d)

    def forward(self, features: Tensor) -> Any:
        parts = features.unflatten(-1, (self.transforms, -1)).split(self.sizes, -1)
        each = (self.kind(*(part[..., i, :] for part in parts)) for i in range(self.transforms))
        return compose(*each)
