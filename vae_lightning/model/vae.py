"""The flat VAE: one latent variable, any encoder, posterior, prior, decoder and likelihood."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning.importance import importance
from vae_lightning.trace import Latent, Trace, constant, draw, drawn


def at_least_float32(params: Tensor) -> Tensor:
    """Densities are computed in float32 or better, whatever precision the networks run in."""
    return params.to(torch.promote_types(params.dtype, torch.float32))


class Likelihood(Protocol):
    """params (..., *param_shape) -> p(x | z), batch (...), event (C, H, W)."""

    shape: tuple[int, ...]  # of an image
    param_shape: tuple[int, ...]
    density: bool  # False: an energy, whose log_prob is no likelihood

    def __call__(self, params: Tensor) -> Distribution: ...


class Inference(nn.Module):
    """x, c -> q(z | x, c)."""

    def __init__(self, encoder: nn.Module, posterior: nn.Module) -> None:
        super().__init__()
        self.encoder, self.posterior = encoder, posterior

    def forward(self, x: Tensor, c: Tensor) -> Distribution:
        return self.posterior(at_least_float32(self.encoder(x, c)))

    def infer(self, x: Tensor, c: Tensor) -> tuple[Distribution, Callable[[], Distribution]]:
        """q(z | x, c), and a function that gives it again with constant parameters."""
        params = at_least_float32(self.encoder(x, c))
        return self.posterior(params), partial(self._constant, params.detach())

    def _constant(self, params: Tensor) -> Distribution:
        with constant(self.posterior):
            return self.posterior(params)


class VAE(nn.Module):
    """p(z) p(x | z) with the posterior q(z | x). Kingma and Welling (2014), arXiv:1312.6114.

    Every method takes images x (B, C, H, W) and, for a conditional model, a context c (B, n_context).

    >>> from vae_lightning.build import build_model
    >>> from vae_lightning.compose import compose
    >>> vae = build_model(compose()[0], shape=(1, 28, 28), n_context=0)
    >>> x = torch.zeros(3, 1, 28, 28)
    >>> vae.encode(x).mean.shape, vae.reconstruct(x).shape, vae.sample(5).shape, vae.log_prob(x, samples=2).shape
    (torch.Size([3, 20]), torch.Size([3, 1, 28, 28]), torch.Size([5, 1, 28, 28]), torch.Size([3]))
    """

    def __init__(
        self, infer: Inference, prior: nn.Module, decoder: nn.Module, likelihood: Likelihood, n_context: int = 0
    ) -> None:
        super().__init__()
        self.infer, self.prior, self.decoder, self.likelihood = infer, prior, decoder, likelihood
        self.n_context = n_context
        self.latent_shape: tuple[int, ...] = infer.posterior.latent_shape  # type: ignore[assignment]

    def forward(self, x: Tensor, c: Tensor, samples: int = 1) -> Trace:
        """x (B, C, H, W), c (B, n_context) -> a Trace with `samples` draws of z per image."""
        q, constant_q = self.infer.infer(x, c)
        z, log_share = draw(q, samples)
        return Trace(x, self.generate(z, c), (Latent(q, self.prior(c), z, constant_q, log_share),))

    def replay(self, trace: Trace, c: Tensor) -> Trace:
        """The same draws, weighed again; the gradient reaches prior and decoder, and not the posterior."""
        (latent,) = trace.latents
        again = latent.again(self.prior(c))
        return Trace(trace.x, self.generate(again.z, c), (again,))

    def generative(self) -> list[nn.Module]:
        """The parts of p(x, z)."""
        return [self.prior, self.decoder, self.likelihood]  # type: ignore[list-item]

    def generate(self, z: Tensor, c: Tensor) -> Distribution:
        """z (..., B, *latent), c (B, n_context) -> p(x | z), batch (..., B), event (C, H, W)."""
        return self.likelihood(at_least_float32(self.decoder(z, c)))

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """x (B, C, H, W) -> q(z | x), batch (B,), event (*latent)."""
        return self.infer(x, self._context(x.shape[0], c))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """z (B, *latent) -> p(x | z), batch (B,), event (C, H, W); its `mean` is the picture."""
        return self.generate(z, self._context(z.shape[0], c))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) -> E[x' | z] at the posterior's mode, (B, C, H, W), in [0, 1] where the pixels are."""
        return self.decode(self.encode(x, c).mode, c).mean

    @torch.no_grad()
    def sample(self, n: int, c: Tensor | None = None) -> Tensor:
        """E[x | z] for n draws of z from this model's own prior, (n, C, H, W)."""
        c = self._context(n, c)
        return self.generate(drawn(self.prior(c), n), c).mean

    def log_prob(self, x: Tensor, c: Tensor | None = None, samples: int = 100, chunk: int | None = None) -> Tensor:
        """An estimate of log p(x) in nats, shape (B,), by importance sampling with `samples` draws, `chunk` at a time.

        Burda et al. (2016), arXiv:1509.00519, eq. 8: in expectation a lower bound that rises with `samples`.

        Raises:
            ValueError: the model has an energy in place of a likelihood.
        """
        if not self.likelihood.density:
            raise ValueError("this model has an energy, not a likelihood: log p(x) has no meaning for it")
        return importance(self, x, self._context(len(x), c), samples, chunk).log_prob

    def _context(self, n: int, c: Tensor | None) -> Tensor:
        if c is None and self.n_context:
            raise ValueError(f"this model is conditional: give it a context of shape ({n}, {self.n_context})")
        return next(self.parameters()).new_zeros(n, 0) if c is None else c


def flat_vae(
    latent_shape: tuple[int, ...],
    encoder: Callable[[tuple[int, ...]], nn.Module],
    decoder: Callable[[tuple[int, ...], tuple[int, ...]], nn.Module],
    posterior: Callable[..., Any],
    prior: Callable[..., Any],
    likelihood: Likelihood,
    n_context: int,
) -> VAE:
    """Fit networks between the heads: `encoder(out_shape)`, `decoder(in_shape, out_shape)`."""
    head = posterior(latent_shape=latent_shape)
    infer = Inference(encoder(head.param_shape), head)
    own_prior = prior(latent_shape=head.latent_shape, infer=infer)
    return VAE(infer, own_prior, decoder(head.latent_shape, likelihood.param_shape), likelihood, n_context)
