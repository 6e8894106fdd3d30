"""q(z | x) = Laplace(mean, b)."""

from __future__ import annotations

from torch import Tensor, distributions, nn

TRAITS = {"space": "real", "rate": True, "density": True, "strata": False, "factorised": True}
NEEDS = {"prior:space": (["real", "any"], "its latents are real vectors: say prior=normal or prior=laplace")}


class Laplace(nn.Module):
    """Independent Laplace distributions. Kingma and Welling (2014), arXiv:1312.6114, section 2.4, "location-scale".

    >>> import torch
    >>> q = Laplace(latent_shape=(2,))(torch.zeros(5, 4))
    >>> q.batch_shape, q.variance[0]
    (torch.Size([5]), tensor([2., 2.]))

    Args:
        latent_shape: (D,). The network gives D locations and D logarithms of the scale b, in units of z.
    """

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.param_shape = (2 * latent_shape[0], *latent_shape[1:])

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., 2 D) -> q, batch (...), event (D,)."""
        dims = len(self.latent_shape)
        location, log_scale = params.chunk(2, dim=-dims)
        return distributions.Independent(distributions.Laplace(location, log_scale.exp()), dims)
