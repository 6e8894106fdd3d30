"""Two stochastic layers: z2 on top, z1 between it and x."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning.model.layer import rows
from vae_lightning.model.mlp import MLP, hidden_layers
from vae_lightning.model.vae import VAE, Inference, Likelihood
from vae_lightning.posterior.normal import Normal
from vae_lightning.schema import Count, Gated, NonNegative
from vae_lightning.trace import Latent, Trace, constant, draw_plain

TRAITS = {"latents": "many", "two_parts": True}
NEEDS = {
    "posterior:space": (["real"], "its layers are real vectors: say posterior=normal"),
    "posterior:density": ([True], "its layers need densities: say posterior=normal"),
    "posterior:strata": ([False], "its layers need plain draws: say posterior=normal"),
}


class Merge(nn.Module):
    """Two inputs through layers of their own, then, together, through one more and to any shape."""

    def __init__(
        self,
        in_shapes: Sequence[tuple[int, ...]],
        out_shape: tuple[int, ...],
        n_context: int,
        hidden: Sequence[int],
        **how: Any,
    ) -> None:
        super().__init__()
        self.in_dims = [len(shape) for shape in in_shapes]
        self.apart = nn.ModuleList(
            nn.Sequential(*hidden_layers(math.prod(shape), hidden[:-1], **how)) for shape in in_shapes
        )
        widths = [[math.prod(shape), *hidden[:-1]][-1] for shape in in_shapes]
        self.together = MLP((sum(widths),), out_shape, n_context, hidden[-1:], **how)

    def forward(self, inputs: Sequence[Tensor], c: Tensor) -> Tensor:
        """Two of (..., *in_shape), c (B, n_context) -> (..., *out_shape)."""
        lead = max((x.shape[: x.dim() - d] for x, d in zip(inputs, self.in_dims, strict=True)), key=len)
        parts = []
        for x, dims, layers in zip(inputs, self.in_dims, self.apart, strict=True):
            flat, _, own = rows(x, c, dims)
            parts.append(layers(flat.flatten(1)).unflatten(0, own).expand(*lead, -1))
        return self.together(torch.cat(parts, -1), c)


class Hierarchical(VAE):
    """p(z2) p(z1 | z2) p(x | z1, z2), with z2 the top layer. See `hierarchical`."""

    def __init__(
        self,
        infer: Inference,
        infer1: Inference,
        prior: nn.Module,
        prior1: Inference,
        decoder: nn.Module,
        likelihood: Likelihood,
        n_context: int,
        order: Literal["bottom_up", "top_down"],
    ) -> None:
        super().__init__(infer, prior, decoder, likelihood, n_context)
        self.infer1, self.prior1, self.order = infer1, prior1, order

    def forward(self, x: Tensor, c: Tensor, samples: int = 1) -> Trace:
        """x (B, C, H, W), c (B, n_context) -> a Trace with two latents, z2 and z1."""
        many = x.expand(samples, *x.shape)
        if self.order == "top_down":
            q2, z2, used2, still2 = self._draw(self.infer, (many,), (many,), c)
            q1, _, used1, still1 = self._draw(self.infer1, (many, z2), (many, used2), c)
        else:
            q1, z1, used1, still1 = self._draw(self.infer1, (many,), (many,), c)
            q2, _, used2, still2 = self._draw(self.infer, (z1,), (used1,), c)
        latents = Latent(q2, self.prior(c), used2, still2), Latent(q1, self.prior1(used2, c), used1, still1)
        return Trace(x, self._pixels(used1, used2, c), latents)

    def _draw(self, infer: Inference, given: Sequence[Tensor], used: Sequence[Tensor], c: Tensor) -> Any:
        """q, a draw for what follows in q, the same draw for p, and q with constant parameters.

        The gradient of a draw is sometimes scaled on its way from p (see `scale_gradient`), but not from the rest of
        q: hence two tensors.
        """
        q = infer(_one(given), c)
        z = draw_plain(q)

        def still() -> Distribution:
            with constant(infer):
                return infer(_one(used), c)

        return q, z, z.view_as(z), still

    def replay(self, trace: Trace, c: Tensor) -> Trace:
        top, low = trace.latents
        again2 = top.again(self.prior(c))
        again1 = low.again(self.prior1(again2.z, c))
        return Trace(trace.x, self._pixels(again1.z, again2.z, c), (again2, again1))

    def generative(self) -> list[nn.Module]:
        return [*super().generative(), self.prior1]

    def _pixels(self, z1: Tensor, z2: Tensor, c: Tensor) -> Distribution:
        return super().generate(z1 if self.order == "bottom_up" else (z1, z2), c)  # type: ignore[arg-type]

    def generate(self, z: Tensor, c: Tensor) -> Distribution:
        """z2 (..., B, D2), c (B, n_context) -> p(x | z1, z2) with a draw of z1 from p(z1 | z2)."""
        p = self.prior1(z, c)
        return self._pixels(draw_plain(p), z, c)

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """x (B, C, H, W) -> q(z2 | x), or, bottom-up, q(z2 | z1) at the mode of q(z1 | x); batch (B,), event (D2,)."""
        c = self._context(x.shape[0], c)
        return self.infer(x if self.order == "top_down" else self.infer1(x, c).mode, c)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) -> E[x' | z] at the modes of both posteriors, (B, C, H, W)."""
        c = self._context(len(x), c)
        z2 = self.encode(x, c).mode
        z1 = self.infer1(x if self.order == "bottom_up" else (x, z2), c).mode
        return self._pixels(z1, z2, c).mean


def _one(inputs: Sequence[Tensor]) -> Any:
    return inputs[0] if len(inputs) == 1 else inputs


def hierarchical(
    shape: tuple[int, ...],
    n_context: int,
    posterior: Callable[..., Any],
    prior: Callable[..., Any],
    likelihood: Likelihood,
    latent_dims: tuple[Count, Count] = (40, 40),
    hidden: list[Count] = [300, 300],  # noqa: B006
    activation: Gated = "glu",
    negative_slope: NonNegative = 0.01,
    order: Literal["bottom_up", "top_down"] = "top_down",
) -> VAE:
    """A VAE with two stochastic layers.

    `bottom_up`: q(z1|x) q(z2|z1), p(z2) p(z1|z2) p(x|z1), as in Burda et al. (2016), arXiv:1509.00519, section 5;
    between z1 and z2 the networks are half as wide. `top_down`: q(z2|x) q(z1|x,z2), p(z2) p(z1|z2) p(x|z1,z2), as in
    Tomczak and Welling (2018), arXiv:1705.07120, section 3.2, eq. 10-13.

    >>> from vae_lightning.build import build_model
    >>> from vae_lightning.compose import compose
    >>> vae = build_model(compose(["model=hierarchical"])[0], shape=(1, 28, 28), n_context=0)
    >>> [latent.z.shape for latent in vae(torch.zeros(3, 1, 28, 28), torch.zeros(3, 0), 2).latents]
    [torch.Size([2, 3, 40]), torch.Size([2, 3, 40])]

    Args:
        shape: (C, H, W), any.
        latent_dims: (D1, D2); D2 is that of the top layer, which `prior` is for. p(z1|z2) is normal.
        hidden: widths of the hidden layers of each network.
        activation: after each.
        negative_slope: of `leaky_relu`.
        order: in which the layers are inferred.
    """
    head1, head2 = (posterior(latent_shape=(d,)) for d in latent_dims)
    normal1 = Normal((latent_dims[0],))
    how: dict[str, Any] = {"n_context": n_context, "activation": activation, "negative_slope": negative_slope}
    dense: Callable[..., nn.Module] = partial(MLP, **how)
    merge: Callable[..., nn.Module] = partial(Merge, hidden=hidden, **how)
    z1, z2 = head1.latent_shape, head2.latent_shape
    if order == "top_down":
        infer = Inference(dense(shape, head2.param_shape, hidden=hidden), head2)
        infer1 = Inference(merge([shape, z2], head1.param_shape), head1)
        decoder = merge([z1, z2], likelihood.param_shape)
        between = hidden
    else:
        between = [math.ceil(width / 2) for width in hidden]
        infer1 = Inference(dense(shape, head1.param_shape, hidden=hidden), head1)
        infer = Inference(dense(z1, head2.param_shape, hidden=between), head2)
        decoder = dense(z1, likelihood.param_shape, hidden=hidden[::-1])
    prior1 = Inference(dense(z2, normal1.param_shape, hidden=between[::-1]), normal1)
    top = prior(latent_shape=z2, infer=infer)
    return Hierarchical(infer, infer1, top, prior1, decoder, likelihood, n_context, order)
