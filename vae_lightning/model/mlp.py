"""Dense networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from vae_lightning.model.layer import activation as make_activation
from vae_lightning.model.layer import norm as make_norm
from vae_lightning.model.layer import rows, with_context
from vae_lightning.model.vae import VAE, Likelihood, flat_vae
from vae_lightning.schema import Activation, Count, Fraction, NonNegative, Norm


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
        activation: Activation = "relu",
        negative_slope: float = 0.01,
        norm: Norm = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_dims, self.out_shape = len(in_shape), tuple(out_shape)
        layers: list[nn.Module] = []
        width = math.prod(in_shape) + n_context
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), make_norm(norm, next_width, image=False)]
            layers += [make_activation(activation, negative_slope), nn.Dropout(dropout)]
            width = next_width
        layers.append(nn.Linear(width, math.prod(out_shape)))
        self.layers = nn.Sequential(*(layer for layer in layers if not _idle(layer)))

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
    activation: Activation = "relu",
    negative_slope: NonNegative = 0.01,
    norm: Norm = "none",
    dropout: Fraction = 0.0,
) -> VAE:
    """A VAE of dense networks.

    Args:
        shape: (C, H, W), any.
        latent_dim: D.
        hidden: width of each hidden layer of the encoder; the decoder has them in reverse.
        activation: after each hidden layer.
        negative_slope: of `leaky_relu`.
        norm: before each activation.
        dropout: the fraction of hidden units that is dropped after each activation.
    """
    network = partial(
        MLP, n_context=n_context, activation=activation, negative_slope=negative_slope, norm=norm, dropout=dropout
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
