"""Many stochastic layers: up deterministically, down together with the prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vae_lightning.distribution import normal
from vae_lightning.model.layer import rows, with_context
from vae_lightning.model.mlp import MLP, hidden_layers
from vae_lightning.model.product import Linear
from vae_lightning.model.vae import VAE, Inference, Likelihood, at_least_float32
from vae_lightning.schema import Count, Gated, NonNegative
from vae_lightning.trace import Latent, Trace, draw, draw_plain

TRAITS = {"latents": "many", "two_parts": False}
NEEDS = {
    "posterior:space": (["real"], "its layers are real vectors: say posterior=normal"),
    "posterior:density": ([True], "its layers need densities: say posterior=normal"),
    "posterior:strata": ([False], "its layers need plain draws: say posterior=normal"),
    "loss.estimator": (["standard", None], "p and q share layers: say loss.estimator=standard"),
}


class Step(nn.Module):
    """One layer on the way down: from the state above to p(z | above), q(z | above, x) and the next state."""

    def __init__(self, latent_dim: int, width: int, below: int, n_context: int, how: dict[str, Any]) -> None:
        super().__init__()
        self.p = Linear(width, 2 * latent_dim)
        self.q = nn.Sequential(*hidden_layers(width + below + n_context, [width], **how), Linear(width, 2 * latent_dim))
        self.next = nn.Sequential(*hidden_layers(width + latent_dim + n_context, [width], **how))

    def prior(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """State (..., W) -> mean and log sigma of p(z | above)."""
        mean, log_scale = at_least_float32(self.p(state)).chunk(2, -1)
        return mean, _soft(log_scale)

    def posterior(self, prior: tuple[Tensor, Tensor], state: Tensor, h: Tensor, c: Tensor) -> Distribution:
        """p, corrected by what x says: N(mean + delta, (sigma exp delta')^2)."""
        delta, log_factor = at_least_float32(self.q(_join(state, h, c))).chunk(2, -1)
        return _normal(prior[0] + delta, prior[1] + _soft(log_factor))

    def forward(self, state: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """State (..., W) and z (..., D) -> the next state (..., W)."""
        return state + self.next(_join(state, z.to(state.dtype), c))


def _soft(x: Tensor) -> Tensor:
    """Kept in [-5, 5]: a density does not explode in the first steps."""
    return 5 * (x / 5).tanh()


def _refuse() -> Distribution:
    raise ValueError("the layers of q are those of p: their parameters cannot be constants for one of them")


def _normal(mean: Tensor, log_scale: Tensor) -> Distribution:
    return Independent(normal.Normal(mean, log_scale.exp()), 1)


def _join(state: Tensor, other: Tensor, c: Tensor) -> Tensor:
    """(..., W), (..., F) and (B, C) -> (..., W + F + C)."""
    lead = torch.broadcast_shapes(state.shape[:-1], other.shape[:-1])
    both = torch.cat([state.expand(*lead, -1), other.expand(*lead, -1)], -1)
    return with_context(both, c.expand(*lead, c.shape[-1]).to(both.dtype))


class Ladder(VAE):
    """p(z_L) p(z_L-1 | z_L) ... p(x | z_1, ..., z_L). See `ladder`."""

    def __init__(
        self,
        infer: Inference,
        prior: nn.Module,
        up: nn.ModuleList,
        start: nn.Module,
        down: Sequence[Step],
        decoder: nn.Module,
        likelihood: Likelihood,
        n_context: int,
    ) -> None:
        super().__init__(infer, prior, decoder, likelihood, n_context)
        self.up, self.start, self.down = up, start, nn.ModuleList(down)

    def forward(self, x: Tensor, c: Tensor, samples: int = 1) -> Trace:
        """x (B, C, H, W), c (B, n_context) -> a Trace with L latents, the top one first."""
        heights = [rows(x, c, 3)[0].flatten(1)]
        for layer in self.up:
            heights.append(layer(heights[-1]))
        q, constant_q = self.infer.infer(heights.pop(), c)
        z, _ = draw(q, samples)
        latents, state = [Latent(q, self.prior(c), z, constant_q)], self._start(z, c)
        for step, h in zip(self._steps(), reversed(heights[1:]), strict=True):
            p = step.prior(state)
            q = step.posterior(p, state, h, c)
            z = draw_plain(q)
            latents.append(Latent(q, _normal(*p), z, _refuse))
            state = step(state, z, c)
        return Trace(x, self._pixels(state, c), tuple(latents))

    def _steps(self) -> Iterable[Step]:
        return cast(Iterable[Step], self.down)

    def _start(self, z: Tensor, c: Tensor) -> Tensor:
        return self.start(with_context(z, c.expand(*z.shape[:-1], c.shape[-1])))

    def _pixels(self, state: Tensor, c: Tensor) -> Distribution:
        return super().generate(state, c)

    def generate(self, z: Tensor, c: Tensor) -> Distribution:
        """z_L (..., B, D_L), c (B, n_context) -> p(x | z) with draws of the other layers from p."""
        state = self._start(z, c)
        for step in self._steps():
            p = _normal(*step.prior(state))
            state = step(state, draw_plain(p), c)
        return self._pixels(state, c)

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """x (B, C, H, W) -> q(z_L | x), batch (B,), event (D_L,)."""
        h = x.flatten(1)
        for layer in self.up:
            h = layer(h)
        return self.infer(h, self._context(x.shape[0], c))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) -> E[x' | z] at the modes of all posteriors, (B, C, H, W)."""
        return self(x, self._context(len(x), c), 1).px.mean[0]


def ladder(
    shape: tuple[int, ...],
    n_context: int,
    posterior: Callable[..., Any],
    prior: Callable[..., Any],
    likelihood: Likelihood,
    latent_dims: list[Count] = [32, 16, 8],  # noqa: B006
    width: Count = 256,
    activation: Gated = "leaky_relu",
    negative_slope: NonNegative = 0.1,
) -> VAE:
    """A ladder VAE: Soenderby et al. (2016), arXiv:1602.02282, section 2.2.

    The way up is deterministic; the way down is shared by inference and generation, and adds to its state at each
    layer. Each posterior corrects its prior: the residual normal of Vahdat and Kautz (2020), arXiv:2007.03898, eq. 2;
    that of the top layer is the option `posterior`.

    >>> from vae_lightning.build import build_model
    >>> from vae_lightning.compose import compose
    >>> vae = build_model(compose(["model=ladder"])[0], shape=(1, 28, 28), n_context=0)
    >>> [latent.z.shape for latent in vae(torch.zeros(3, 1, 28, 28), torch.zeros(3, 0), 2).latents]
    [torch.Size([2, 3, 8]), torch.Size([2, 3, 16]), torch.Size([2, 3, 32])]

    Args:
        shape: (C, H, W), any.
        latent_dims: (D1, ..., DL), the top layer last; `prior` is for that one.
        width: of all hidden layers.
        activation: after each.
        negative_slope: of `leaky_relu`.
    """
    how: dict[str, Any] = {"activation": activation, "negative_slope": negative_slope}
    head = posterior(latent_shape=(latent_dims[-1],))
    up: Sequence[nn.Module] = [
        nn.Sequential(*hidden_layers(before, [width], **how))
        for before in [math.prod(shape), *[width] * (len(latent_dims) - 1)]
    ]
    infer = Inference(MLP((width,), head.param_shape, n_context, [width], **how), head)
    start = nn.Sequential(*hidden_layers(latent_dims[-1] + n_context, [width], **how))
    down = [Step(d, width, width, n_context, how) for d in reversed(latent_dims[:-1])]
    decoder = MLP((width,), likelihood.param_shape, n_context, [width], **how)

    def from_image(x: Tensor, c: Tensor) -> Distribution:
        return infer(nn.Sequential(nn.Flatten(), *up)(x), c)

    top = prior(latent_shape=head.latent_shape, infer=from_image)
    return Ladder(infer, top, nn.ModuleList(up), start, down, decoder, likelihood, n_context)
