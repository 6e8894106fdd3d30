"""p(z | c) = N(mean(c), diag(sigma(c)^2))."""

from __future__ import annotations

from torch import Tensor, distributions, nn

from vae_lightning.posterior.normal import Normal

TRAITS = {"space": "real", "learned": True}
NEEDS = {"condition": (["label"], "it is a distribution for each label: say condition=label or prior=normal")}


class Conditional(nn.Module):
    """A normal distribution for each label. Sohn et al. (2015), "Learning structured output representation", eq. 4.

    >>> import torch
    >>> Conditional(latent_shape=(2,), n_context=10)(torch.eye(10)).batch_shape
    torch.Size([10])

    Args:
        latent_shape: (D,).
        n_context: width of the context.
    """

    def __init__(self, latent_shape: tuple[int, ...], n_context: int) -> None:
        super().__init__()
        self.head = Normal(latent_shape)
        self.linear = nn.Linear(n_context, 2 * latent_shape[0])

    def forward(self, c: Tensor) -> distributions.Distribution:
        """c (B, C) -> p, batch (B,), event (D,)."""
        return self.head(self.linear(c))
