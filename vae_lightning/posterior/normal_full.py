"""q(z | x) = N(mean, L L')."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn
from torch.distributions import Independent, MultivariateNormal, Normal, register_kl

TRAITS = {"space": "real", "rate": True, "density": True, "strata": False, "factorised": False}
NEEDS = {"prior:space": (["real", "any"], "its latents are real vectors: say prior=normal")}


class NormalFull(nn.Module):
    """A normal distribution with a full covariance matrix, by its Cholesky factor L.

    Kingma and Welling (2019), arXiv:1906.02691, section 2.5.1, eq. 2.34-2.38.

    >>> q = NormalFull(latent_shape=(2,))(torch.zeros(5, 5))
    >>> q.batch_shape, q.covariance_matrix[0].tolist()
    (torch.Size([5]), [[1.0, 0.0], [0.0, 1.0]])

    Args:
        latent_shape: (D,). The network gives D means, D logarithms of the diagonal of L, and what is below it.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        (d,) = self.latent_shape
        self.param_shape = (2 * d + d * (d - 1) // 2,)
        rows, columns = torch.tril_indices(d, d, -1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, params: Tensor) -> distributions.Distribution:
        """params (..., 2 D + D (D - 1) / 2) -> q, batch (...), event (D,)."""
        (d,) = self.latent_shape
        mean, log_diagonal, below = params.split([d, d, self.param_shape[0] - 2 * d], -1)
        lower = torch.diag_embed(log_diagonal.exp())
        lower[..., self.rows, self.columns] = below
        return MultivariateNormal(mean, scale_tril=lower)


@register_kl(MultivariateNormal, Independent)
def _kl_full_diagonal(q: MultivariateNormal, p: Independent) -> Tensor:
    """KL(N(m, L L') || N(mu, diag(sigma^2))) in nats, shape (B,)."""
    base = p.base_dist
    if not isinstance(base, Normal):
        raise NotImplementedError
    lower, diagonal = q.scale_tril, q.scale_tril.diagonal(dim1=-2, dim2=-1)
    spread = (lower / base.scale.unsqueeze(-1)).square().sum((-2, -1))  # tr(diag(sigma^-2) L L')
    distance = ((q.loc - base.loc) / base.scale).square().sum(-1)
    return (spread + distance - q.loc.shape[-1]) / 2 + (base.scale.log() - diagonal.log()).sum(-1)
