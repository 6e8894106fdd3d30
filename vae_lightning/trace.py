"""What one pass through a model leaves behind. Shapes: S samples, B batch, C H W image, D latent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from vae_lightning.schema import Analytic


@contextmanager
def constant(*modules: nn.Module) -> Iterator[None]:
    """Inside, the parameters of `modules` are constants: gradients pass through the modules, and not into them.

    >>> critic, z = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    >>> with constant(critic):
    ...     critic(z).sum().backward()
    >>> critic.weight.grad is None, z.grad is None
    (True, False)
    """
    live = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in live:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in live:
            parameter.requires_grad_(True)


@dataclass(frozen=True)
class Latent:
    """One stochastic layer: where it was drawn from, what it is held against, and the draw."""

    q: Distribution  # q(z | x), batch (B,)
    p: Distribution  # p(z), batch () or (B,)
    z: Tensor  # (S, B, *latent)
    constant_q: Callable[[], Distribution]  # q again, with constant parameters
    log_share: Tensor | None = None  # (S, B): log of what each draw counts, where not all count alike

    def log_ratio(self, constant: bool = False) -> Tensor:
        """log q(z | x) - log p(z) at the draw, in nats, shape (S, B); its mean estimates the rate.

        Args:
            constant: the parameters of q are constants, so that the gradient comes through the draw alone.
        """
        if getattr(self.q, "deterministic", False):  # all mass on one code: the density is no density at a draw
            return kl_divergence(self.q, self.p).expand(self.z.shape[:2])
        q = self.constant_q() if constant else self.q
        return q.log_prob(self.z) - self.p.log_prob(self.z)

    def again(self, p: Distribution) -> Latent:
        """The same draw against another p, without a gradient to q or to the draw."""
        with torch.no_grad():
            q = self.constant_q()
        log_share = None if self.log_share is None else self.log_share.detach()
        return Latent(q, p, self.z.detach(), lambda: q, log_share)

    def rate(self, analytic: Analytic = "auto") -> Tensor:
        """KL(q || p) in nats: shape (B,) in closed form, or (S, B), to be averaged.

        Args:
            analytic: `auto` takes the closed form where there is one.

        Raises:
            ValueError: `analytic` is True, and there is none.
        """
        if analytic is False:
            return self.log_ratio()
        try:
            return kl_divergence(self.q, self.p)
        except NotImplementedError as error:
            if analytic is True:
                raise ValueError(
                    "loss.analytic=true: this posterior and this prior have no rate in closed form; say "
                    "loss.analytic=auto, which estimates it from the draws"
                ) from error
            return self.log_ratio()


@dataclass(frozen=True)
class Trace:
    """One pass through a model: all that a loss may look at."""

    x: Tensor  # (B, C, H, W)
    px: Distribution  # p(x | z), batch (S, B)
    latents: tuple[Latent, ...]

    def log_likelihood(self) -> Tensor:
        """log p(x | z), in nats, shape (S, B)."""
        return self.px.log_prob(self.x)

    def log_weight(self, log_likelihood: Tensor | None = None) -> Tensor:
        """log p(x, z) - log q(z | x), in nats, shape (S, B).

        Args:
            log_likelihood: if it is known already.
        """
        log_w = self.log_likelihood() if log_likelihood is None else log_likelihood
        for latent in self.latents:
            log_w = log_w - latent.log_ratio()
        return log_w

    def expect(self, values: Tensor) -> Tensor:
        """E_q of `values` (S, B), shape (B,); values (B,) are expectations already."""
        if values.dim() == 1:
            return values
        share = self._log_share()
        return (values if share is None else values * share.exp()).mean(0)

    def log_mean_exp(self, values: Tensor, groups: int = 1) -> Tensor:
        """log E_q exp of `values` (S, B), over the draws of each of `groups` groups, shape (groups, B)."""
        share = self._log_share()
        values = (values if share is None else values + share).unflatten(0, (groups, -1))
        return values.logsumexp(1) - math.log(values.shape[1])

    def rate(self, analytic: Analytic = "auto") -> Tensor:
        """KL(q || p) summed over all latents, in nats, shape (B,)."""
        rates = [self.expect(latent.rate(analytic)) for latent in self.latents]
        return rates[0] if len(rates) == 1 else torch.stack(rates).sum(0)

    def _log_share(self) -> Tensor | None:
        shares = [latent.log_share for latent in self.latents if latent.log_share is not None]
        return torch.stack(shares).sum(0) if shares else None


def draw(q: Distribution, samples: int) -> tuple[Tensor, Tensor | None]:
    """Draws of z, (S, B, *latent), and the logarithm of what each counts, (S, B), or None.

    A mixture gives `samples` draws of each of its components. Where no gradient is asked for, draws are exact, also of
    what is relaxed in training.
    """
    stratify = getattr(q, "stratify", None)
    if stratify is not None:
        z, log_share = stratify(samples)
        return z, log_share
    return draw_plain(q, (samples,)), None


def draw_plain(q: Distribution, shape: tuple[int, ...] = ()) -> Tensor:
    """Draws (*shape, *batch, *event) that all count alike: with a gradient where one is asked for, else exact."""
    return q.rsample(shape) if torch.is_grad_enabled() else q.sample(torch.Size(shape))


def drawn(p: Distribution, n: int, lead: tuple[int, ...] = ()) -> Tensor:
    """Draws of a prior, (*lead, n, *latent): one for each image, if it has a batch of n, else n of the same."""
    return p.sample(torch.Size(lead if p.batch_shape else (*lead, n)))
