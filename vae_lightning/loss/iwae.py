"""The importance-weighted bound."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_lightning.needs import BOUND
from vae_lightning.schema import Count, Estimator
from vae_lightning.trace import Trace

NEEDS = {**BOUND}


def weigh(trace: Trace, estimator: Estimator = "standard") -> tuple[Tensor, dict[str, Tensor]]:
    """log p(x, z) - log q(z | x) in nats, shape (S, B), and the distortion and rate of the same draws.

    Where `estimator` is not `standard`, the parameters of q are constants, and the gradient comes through the draws.
    """
    log_likelihood = trace.log_likelihood()
    log_ratio = torch.stack([latent.log_ratio(estimator != "standard") for latent in trace.latents]).sum(0)
    distortion, rate = -trace.expect(log_likelihood.detach()).mean(), trace.expect(log_ratio.detach()).mean()
    return log_likelihood - log_ratio, {"distortion": distortion, "rate": rate}


def importance_bound(
    trace: Trace, log_w: Tensor, groups: int = 1, power: float = 1.0, estimator: Estimator = "standard"
) -> Tensor:
    """1 / power log mean w^power over the draws of each group, in nats, shape (groups, B): a bound on log p(x).

    The gradient's estimator, which must be that of `weigh`, too:

    * `standard`: reparametrised draws, all else differentiated. Burda et al. (2016), arXiv:1509.00519, eq. 13.
    * `stl`: the parameters of q inside log q are constants. Roeder et al. (2017), arXiv:1703.09194, eq. 8. With one
      draw it is unbiased; with more it is not (Tucker et al. 2019, section 3).
    * `dreg`: the doubly reparametrised gradient, unbiased for any number of draws. Tucker et al. (2019),
      arXiv:1810.04152, eq. 8 (power 1). For w^power, reparametrising the score of their eq. 7 once more gives the
      gradient of a draw with normalised weight v the factor power v^2 + (1 - power) v, where `stl` has v.
    """
    values = power * log_w
    if estimator == "dreg":
        weights = values.detach().unflatten(0, (groups, -1)).softmax(1).flatten(0, 1)
        scale_gradient(trace, power * weights + 1 - power)
    return trace.log_mean_exp(values, groups) / power


def scale_gradient(trace: Trace, factor: Tensor) -> None:
    """The gradient that reaches a draw is multiplied by `factor` (S, B)."""
    for latent in trace.latents:
        if latent.z.requires_grad:
            shape = (*factor.shape, *[1] * (latent.z.dim() - 2))
            latent.z.register_hook(lambda gradient, shape=shape: gradient * factor.view(shape))


class IWAE(nn.Module):
    """The negative importance-weighted bound. Burda et al. (2016), arXiv:1509.00519, eq. 8.

    Distortion and rate are those of the same draws: their sum is the negative ELBO, which lies above the loss.

    Args:
        samples: draws of z per image, k.
        estimator: of the gradient, see `importance_bound`.

    >>> IWAE(samples=50).samples
    50
    """

    def __init__(self, samples: Count = 5, estimator: Estimator = "standard") -> None:
        super().__init__()
        self.samples, self.estimator = samples, estimator

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), context (B, C) -> the loss and its terms, all in nats per image."""
        trace: Trace = model(x, c, self.samples)
        log_w, terms = weigh(trace, self.estimator)
        return -importance_bound(trace, log_w, estimator=self.estimator).mean(), terms
