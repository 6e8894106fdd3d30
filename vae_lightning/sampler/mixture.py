"""A mixture of normal distributions, fitted to the latents."""

from __future__ import annotations

import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from vae_lightning.errors import ConfigError
from vae_lightning.progress import console
from vae_lightning.sampler.sampler import from_vectors
from vae_lightning.schema import Count
from vae_lightning.trained import Trained


class Mixture:
    """Normal distributions with full covariance matrices. Ghosh et al. (2020), arXiv:1903.12436, section 4.

    >>> z = torch.cat([torch.randn(200, 2), torch.randn(200, 2) + 9])
    >>> Mixture(components=2).fit(z).sample((4,)).shape
    torch.Size([4, 2])

    Args:
        components: how many.
        images: training images whose latents it is fitted to; null: all.
    """

    def __init__(self, components: Count = 10, images: Count | None = 20_000) -> None:
        self.components, self.images = components, images

    def __call__(self, trained: Trained, c: Tensor) -> Tensor:
        """Contexts (n, n_context) -> z (n, *latent)."""
        return from_vectors("mixture", trained, c, self.images, self.fit)

    def fit(self, z: Tensor) -> Distribution:
        """Latents (N, D) -> a distribution, event (D,), by expectation maximisation.

        Raises:
            ConfigError: more components than latents.
        """
        if len(z) < max(2, self.components):
            raise ConfigError(
                f"sampler.components={self.components}: there are {len(z)} latents to fit them to; say fewer"
            )
        seed = int(torch.randint(2**31, ()))
        mixture = GaussianMixture(self.components, random_state=seed)
        with console.status(f"a mixture of {self.components} for {len(z)} latents"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a last step that is not tiny does no harm here
            mixture.fit(z.double().cpu().numpy())
        weights, means, covariances = (
            torch.from_numpy(a).to(z.device, torch.float64)
            for a in (mixture.weights_, mixture.means_, mixture.covariances_)
        )
        factors = torch.linalg.cholesky(covariances).to(z)
        normals = MultivariateNormal(means.to(z), scale_tril=factors)
        return MixtureSameFamily(Categorical(weights.to(z)), normals)
