"""A normalising flow, fitted to the latents."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.distributions import AffineTransform, Distribution, TransformedDistribution

from vae_lightning.distribution.flow import flows
from vae_lightning.sampler.fit import Fit
from vae_lightning.sampler.sampler import from_vectors
from vae_lightning.sampler.standard import standard
from vae_lightning.schema import Count
from vae_lightning.trained import Trained


class Flow:
    """A normal distribution through a flow that makes the latents most likely. After Ghosh et al. (2020), section 4.

    `maf`: Papamakarios et al. (2017), arXiv:1705.07057. `realnvp`: Dinh et al. (2017), arXiv:1605.08803. `nsf`: Durkan
    et al. (2019), arXiv:1906.04032. The latents are standardised first.

    Args:
        training: how it is trained.
        kind: which flow.
        transforms: how many maps.
        hidden: widths of their networks.
        images: training images whose latents it is fitted to; null: all.
    """

    def __init__(
        self,
        training: Fit,
        kind: Literal["maf", "realnvp", "nsf"] = "maf",
        transforms: Count = 5,
        hidden: list[Count] = [128, 128],  # noqa: B006
        images: Count | None = None,
    ) -> None:
        self.training, self.transforms, self.hidden, self.images = training, transforms, hidden, images
        self.family = {"maf": flows.MAF, "realnvp": flows.RealNVP, "nsf": flows.NSF}[kind]

    def __call__(self, trained: Trained, c: Tensor) -> Tensor:
        """Contexts (n, n_context) -> z (n, *latent)."""
        return from_vectors("flow", trained, c, self.images, self.fit)

    def fit(self, z: Tensor) -> Distribution:
        """Latents (N, D) -> a distribution, event (D,), by maximum likelihood."""
        mean, std = standard(z)
        flow = self.family(z.shape[1], transforms=self.transforms, hidden_features=self.hidden).to(z)
        self.training(flow, lambda u: -flow().log_prob(u), (z - mean) / std, f"a flow for {len(z)} latents")
        flow.requires_grad_(False)
        return TransformedDistribution(flow(), AffineTransform(mean, std, event_dim=1))
