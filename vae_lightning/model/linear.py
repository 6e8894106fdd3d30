"""Linear maps: probabilistic principal component analysis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from vae_lightning.model.mlp import MLP
from vae_lightning.model.vae import VAE, Likelihood, flat_vae
from vae_lightning.schema import Count

TRAITS = {"latents": "one", "two_parts": True}


def linear(
    shape: tuple[int, ...],
    n_context: int,
    posterior: Callable[..., Any],
    prior: Callable[..., Any],
    likelihood: Likelihood,
    latent_dim: Count = 20,
) -> VAE:
    """A VAE without hidden layers. With likelihood=normal likelihood.scale=learned it is probabilistic PCA.

    Tipping and Bishop (1999), 10.1111/1467-9868.00196; that its ELBO is tight at the maximum of the likelihood: Lucas
    et al. (2019), arXiv:1911.02469, section 4.

    Args:
        shape: (C, H, W), any.
        latent_dim: D.
    """
    network = partial(MLP, n_context=n_context, hidden=())
    return flat_vae((latent_dim,), partial(network, shape), network, posterior, prior, likelihood, n_context)
