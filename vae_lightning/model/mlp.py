"""Dense networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from vae_lightning.model.layer import activation as make_activation
from vae_lightning.model.layer import norm as make_norm
from vae_lightning.model.layer import rows, twice, with_context
from vae_lightning.model.product import Linear
from vae_lightning.model.vae import VAE, Likelihood, flat_vae
from vae_lightning.schema import Count, Fraction, Gated, NonNegative, Norm

TRAITS = {"latents": "one", "two_parts": True}


class Residual(nn.Module):
    """x + f(x), where the width changes with a linear map of x. He et al. (2016), arXiv:1512.03385, eq. 1 and 2."""

    def __init__(self, inner: nn.Module, before: int, after: int) -> None:
        super().__init__()
        self.inner = inner
        self.shortcut: nn.Module = nn.Identity() if before == after else Linear(before, after, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.inner(x)


def hidden_layers(
    width: int,
    hidden: Sequence[int],
    activation: Gated = "relu",
    negative_slope: float = 0.01,
    norm: Norm = "none",
    dropout: float = 0.0,
    residual: bool = False,
) -> list[nn.Module]:
    """Layers from `width` numbers through all widths in `hidden`, activations included."""
    layers: list[nn.Module] = []
    for before, after in pairwise([width, *hidden]):
        wide = twice(activation, after)
        inner: list[nn.Module] = [Linear(before, wide), make_norm(norm, wide, image=False)]
        inner += [make_activation(activation, negative_slope), nn.Dropout(dropout)]
        inner = [layer for layer in inner if not _idle(layer)]
        layers += [Residual(nn.Sequential(*inner), before, after)] if residual else inner
    return layers


class MLP(nn.Module):
    """Dense layers from any shape to any shape.

    >>> import torch
    >>> MLP((1, 28, 28), (4,), hidden=[16])(torch.zeros(3, 1, 28, 28), torch.zeros(3, 0)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        n_context: int = 0,
        hidden: Sequence[int] = (400,),
        activation: Gated = "relu",
        negative_slope: float = 0.01,
        norm: Norm = "none",
        dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.in_dims, self.out_shape = len(in_shape), tuple(out_shape)
        width = math.prod(in_shape) + n_context
        layers = hidden_layers(width, hidden, activation, negative_slope, norm, dropout, residual)
        last = Linear([width, *hidden][-1], math.prod(out_shape))
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (..., *in_shape), c (B, n_context) -> (..., *out_shape)."""
        x, c, lead = rows(x, c, self.in_dims)
        return self.layers(with_context(x.flatten(1), c)).view(*lead, *self.out_shape)


def _idle(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Identity) or (isinstance(layer, nn.Dropout) and layer.p == 0)


def mlp(
    shape: tuple[int, ...],
    n_context: int,
    posterior: Callable[..., Any],
    prior: Callable[..., Any],
    likelihood: Likelihood,
    latent_dim: Count = 20,
    hidden: list[Count] = [400],  # noqa: B006
    activation: Gated = "relu",
    negative_slope: NonNegative = 0.01,
    norm: Norm = "none",
    dropout: Fraction = 0.0,
    residual: bool = False,
) -> VAE:
    """A VAE of dense networks. With activation `glu` its layers are gated: Tomczak and Welling (2018),
    arXiv:1705.07120, section 4.2.

    Args:
        shape: (C, H, W), any.
        latent_dim: D.
        hidden: width of each hidden layer of the encoder; the decoder has them in reverse.
        activation: after each hidden layer.
        negative_slope: of `leaky_relu`.
        norm: before each activation.
        dropout: the fraction of hidden units that is dropped after each activation.
        residual: the input of each hidden layer is added to its output.
    """
    network = partial(
        MLP,
        n_context=n_context,
        activation=activation,
        negative_slope=negative_slope,
        norm=norm,
        dropout=dropout,
        residual=residual,
    )
    return flat_vae(
        (latent_dim,),
        partial(network, shape, hidden=hidden),
        partial(network, hidden=hidden[::-1]),
        posterior,
        prior,
        likelihood,
        n_context,
    )
