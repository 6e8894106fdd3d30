"""log p(x) by annealed importance sampling: a check that does not depend on the encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_lightning.annealing import Density, anneal, sigmoidal
from vae_lightning.importance import importance
from vae_lightning.metric.value import Names, Value, refuse
from vae_lightning.model.vae import VAE
from vae_lightning.needs import LIKELIHOOD, ONE_LATENT, RATE, Needs
from vae_lightning.schema import Count
from vae_lightning.trace import constant, drawn
from vae_lightning.trained import Trained
from vae_lightning.units import NATS

REAL: Needs = {"posterior:space": (["real"], "Hamiltonian dynamics need real vectors")}


class AIS:
    """Annealed importance sampling, and how wrong it can be.

    Wu et al. (2017), arXiv:1611.04273, sections 2.2 and 3.1. Chains from the prior give, in expectation, a lower bound
    of log p(x). For images that the model itself has drawn an exact z is known, and chains back from it give an upper
    bound, too: the difference says how far annealing got. A first run finds the lengths of the steps, a second
    one keeps them, so that its weights are unbiased.

    Args:
        images: test images, and simulated ones.
        chains: per image.
        temperatures: between prior and posterior.
        leapfrog: steps per transition.
        samples: for the estimate by importance sampling that stands beside it.
    """

    lower_is_better: Names = ("ais_nll",)
    higher_is_better: Names = ()

    def __init__(
        self,
        images: Count = 16,
        chains: Count = 16,
        temperatures: Count = 500,
        leapfrog: Count = 10,
        samples: Count = 5000,
    ) -> None:
        self.images, self.chains, self.samples = images, chains, samples
        self.temperatures, self.leapfrog = temperatures, leapfrog

    def __call__(self, trained: Trained) -> dict[str, Value]:
        """nll of test images by AIS and by importance sampling, and its bounds for simulated images; in nats."""
        refuse(trained, {**RATE, **LIKELIHOOD, **ONE_LATENT, **REAL})
        with constant(trained.model):
            return self._judge(trained)

    def _judge(self, trained: Trained) -> dict[str, Value]:
        model = trained.model
        x, _, c = trained.first("test", self.images)
        test, _ = self.forwards(model, x, c, "test images")
        weighed = importance(model, x, c, self.samples)
        z, simulated = simulate(model, c)
        low, steps = self.forwards(model, simulated, c, "simulated images")
        high = self.backwards(model, simulated, z, c, steps)
        n = f"{len(x)} test images"
        return {
            "ais_nll": below(test, f"{n}, {self.chains} chains, {self.temperatures} temperatures"),
            "nll_of_these": Value(
                -weighed.log_prob.double().mean().item(),
                NATS,
                weighed.variance.sum().sqrt().item() / len(x),
                f"the same {n}, {self.samples} importance samples",
            ),
            "simulated_nll_upper": below(low, f"{len(x)} images drawn from the model: upper bound of their nll"),
            "simulated_nll_lower": above(high, "lower bound: chains back from the z that they were drawn from"),
            "ais_gap": Value((_bound(-high, -1) - _bound(low, 1)).mean().item(), NATS, note="between the two"),
        }

    def forwards(self, model: VAE, x: Tensor, c: Tensor, what: str) -> tuple[Tensor, Tensor]:
        """Log-weights (S, B) of chains from the prior, and the lengths of their steps (T, B)."""
        density, p = _density(model, x, c), model.prior(c)
        betas, steps = sigmoidal(self.temperatures).to(x.device), None
        for name in ("lengths of steps for", "on"):
            z = drawn(p, len(x), (self.chains,))
            log_w, steps, _ = anneal(density, z, betas, self.leapfrog, steps, what=f"AIS: {name} {what}")
        assert steps is not None
        return log_w, steps

    def backwards(self, model: VAE, x: Tensor, z: Tensor, c: Tensor, steps: Tensor) -> Tensor:
        """Log-weights (S, B) of chains that go back from an exact draw z of p(z | x)."""
        start, betas = z.expand(self.chains, *z.shape), sigmoidal(self.temperatures).to(x.device)
        what = "AIS: back from simulated images"
        return anneal(_density(model, x, c), start, betas, self.leapfrog, steps, backwards=True, what=what).log_w


def _density(model: VAE, x: Tensor, c: Tensor) -> Density:
    return lambda z: (model.prior(c).log_prob(z), model.generate(z, c).log_prob(x))


@torch.no_grad()
def simulate(model: VAE, c: Tensor) -> tuple[Tensor, Tensor]:
    """z of p(z), (B, D), and x of p(x | z), (B, C, H, W)."""
    z = drawn(model.prior(c), len(c))
    return z, model.generate(z, c).sample()


def _bound(log_w: Tensor, sign: int) -> Tensor:
    """The logarithm of the mean over chains, (B,); backwards (sign -1) of the reciprocal of the mean of 1/w."""
    return sign * (log_w.logsumexp(0) - math.log(len(log_w)))


def below(log_w: Tensor, note: str) -> Value:
    """The nll from weights (S, B) of chains from the prior: in expectation an upper bound of it."""
    return Value(-_bound(log_w, 1).mean().item(), NATS, _error(log_w), note)


def above(log_w: Tensor, note: str) -> Value:
    """The nll from weights (S, B) of chains back from the posterior: in expectation a lower bound of it."""
    return Value(-_bound(-log_w, -1).mean().item(), NATS, _error(-log_w), note)


def _error(log_w: Tensor) -> float:
    """The standard error of the mean over images of the logarithm of the mean over chains, by the delta method."""
    ess = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
    return (1 / ess - 1 / len(log_w)).clamp(min=0).sum().sqrt().item() / log_w.shape[1]
