"""Regularised autoencoders: no noise, a smooth decoder."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_lightning.model.vae import VAE
from vae_lightning.needs import FIXED_PRIOR, ONE_LATENT, POINT
from vae_lightning.schema import Count, NonNegative
from vae_lightning.trace import Trace

NEEDS = {**POINT, **ONE_LATENT, **FIXED_PRIOR}


class RAE(nn.Module):
    """distortion + beta |z|^2 / 2 + scale times a regulariser of the decoder.

    Ghosh et al. (2020), arXiv:1903.12436, eq. 11.

    `l2`: the squared weights of the decoder. `gradient_penalty`: |dD(z)/dz|^2, the Frobenius norm of the Jacobian by
    one random projection (their eq. 12). `spectral_norm`: each layer's weights are divided by their largest singular
    value where it exceeds 1, before every step (section 3, after Miyato et al. 2018, arXiv:1802.05957; as a projection
    after Gouk et al. 2018, arXiv:1804.04368), so that the model keeps plain weights.

    Args:
        beta: weight of the squared norm of z.
        regularizer: which.
        scale: weight of the regulariser; `spectral_norm` and `none` have none.
        iterations: of the power method that finds a singular value.

    >>> RAE(regularizer="gradient_penalty").regularizer
    'gradient_penalty'
    """

    def __init__(
        self,
        beta: NonNegative = 0.01,
        regularizer: Literal["l2", "gradient_penalty", "spectral_norm", "none"] = "l2",
        scale: NonNegative = 1e-3,
        iterations: Count = 10,
    ) -> None:
        super().__init__()
        self.beta, self.regularizer, self.scale, self.iterations = beta, regularizer, scale, iterations

    def forward(self, model: VAE, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        if self.regularizer == "spectral_norm" and torch.is_grad_enabled():
            self._project(model.decoder)
        trace: Trace = model(x, c)
        z = trace.latents[0].z[0]
        distortion, norm = -trace.log_likelihood().mean(), z.square().flatten(1).sum(1).mean() / 2
        penalty = self._penalty(model, z, c)
        loss = distortion + self.beta * norm + self.scale * penalty
        return loss, {"distortion": distortion, "norm": norm, "penalty": penalty}

    def _penalty(self, model: VAE, z: Tensor, c: Tensor) -> Tensor:
        if self.regularizer == "l2":
            return torch.stack([p.square().sum() for p in model.decoder.parameters()]).sum()
        if self.regularizer != "gradient_penalty":
            return z.new_zeros(())
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_(True)
            image = model.generate(z, c).mean
            (gradient,) = torch.autograd.grad((image * torch.randn_like(image)).sum(), z, create_graph=training)
        return gradient.square().flatten(1).sum(1).mean()

    @torch.no_grad()
    def _project(self, decoder: nn.Module) -> None:
        for weight in decoder.parameters():
            if weight.dim() > 1:
                weight.div_(largest_singular_value(weight.flatten(1), self.iterations).clamp(min=1.0))


def largest_singular_value(matrix: Tensor, iterations: int) -> Tensor:
    """By the power method.

    >>> largest_singular_value(torch.diag(torch.tensor([3.0, 1.0])), iterations=20)
    tensor(3.)
    """
    v = F.normalize(torch.ones_like(matrix[0]), dim=0)
    for _ in range(iterations):
        v = F.normalize(matrix.T @ (matrix @ v), dim=0)
    return (matrix @ v).norm()
