"""A second VAE, fitted to the latents of the first."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from vae_lightning.build import build_model
from vae_lightning.compose import compose
from vae_lightning.model.vae import VAE
from vae_lightning.sampler.fit import Fit
from vae_lightning.sampler.sampler import from_vectors
from vae_lightning.sampler.standard import standard
from vae_lightning.schema import Count
from vae_lightning.trained import Trained

START = 0.3  # of sigma, in standard deviations of z; from 1, where noise explains everything, it never learns to use u


class SecondStage(Distribution):
    """z = mean + std * v with v ~ p(v | u), u ~ N(0, I) from a VAE of vectors v (1, 1, D); without a density."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, vae: VAE, mean: Tensor, std: Tensor) -> None:
        self.vae, self.mean_of_z, self.std_of_z = vae, mean, std
        super().__init__(torch.Size(), mean.shape, validate_args=False)

    @torch.no_grad()
    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, D)."""
        n = torch.Size(sample_shape).numel()
        u = self.vae.prior(self.mean_of_z.new_zeros(n, 0)).sample((n,))
        v = self.vae.decode(u).sample().view(*sample_shape, -1)
        return self.mean_of_z + self.std_of_z * v


class TwoStage:
    """A VAE whose data are the latents, with as many latents of its own. Dai and Wipf (2019), arXiv:1903.05789, sec. 4.

    p(z|u) is normal with one learned variance for all of z; the latents are standardised first. In the paper the
    networks have three hidden layers of 1024 units.

    Args:
        training: how it is trained.
        hidden: widths of the hidden layers of its encoder and its decoder.
        images: training images whose latents it is fitted to; null: all.
    """

    def __init__(self, training: Fit, hidden: list[Count] = [256, 256], images: Count | None = 20_000) -> None:  # noqa: B006
        self.training, self.hidden, self.images = training, hidden, images

    def __call__(self, trained: Trained, c: Tensor) -> Tensor:
        """Contexts (n, n_context) -> z (n, *latent)."""
        return from_vectors("two_stage", trained, c, self.images, self.fit)

    def fit(self, z: Tensor) -> Distribution:
        """Latents (N, D) -> a distribution, event (D,), by the bound of a VAE."""
        mean, std = standard(z)
        size = [f"model.latent_dim={z.shape[1]}", f"model.hidden={list(self.hidden)}"]
        normal = ["likelihood=normal", "likelihood.scale=learned", f"likelihood.sigma={START}"]
        config, _ = compose(["model=mlp", "posterior=normal", "prior=normal", *size, *normal])
        vae = build_model(config, shape=(1, 1, z.shape[1]), n_context=0).to(z)

        def nats(v: Tensor) -> Tensor:
            trace = vae(v, v.new_zeros(len(v), 0))
            return trace.rate() - trace.expect(trace.log_likelihood())

        self.training(vae, nats, ((z - mean) / std)[:, None, None], f"a second VAE for {len(z)} latents")
        return SecondStage(vae, mean, std)
