"""What one pass through a model leaves behind. Shapes: S samples, B batch, C H W image, D latent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution


@dataclass(frozen=True)
class Latent:
    """One stochastic layer: where it was drawn from, what it is held against, and the draw."""

    q: Distribution  # q(z | x), batch (B,)
    p: Distribution  # p(z), batch () or (B,)
    z: Tensor  # (S, B, *latent)

    def log_ratio(self) -> Tensor:
        """log q(z | x) - log p(z) at the draw, in nats, shape (S, B); its mean estimates the rate."""
        return self.q.log_prob(self.z) - self.p.log_prob(self.z)


@dataclass(frozen=True)
class Trace:
    """One pass through a model: all that a loss may look at."""

    x: Tensor  # (B, C, H, W)
    px: Distribution  # p(x | z), batch (S, B)
    latents: tuple[Latent, ...]

    def log_likelihood(self) -> Tensor:
        """log p(x | z), in nats, shape (S, B)."""
        return self.px.log_prob(self.x)

    def log_weight(self) -> Tensor:
        """log p(x, z) - log q(z | x), in nats, shape (S, B)."""
        log_w = self.log_likelihood()
        for latent in self.latents:
            log_w = log_w - latent.log_ratio()
        return log_w
