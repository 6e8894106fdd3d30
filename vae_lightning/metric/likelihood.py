"""log p(x) of test images, by importance sampling."""

from __future__ import annotations

import math

import torch

from vae_lightning.importance import Weights, importance
from vae_lightning.metric.value import Names, Value, refuse
from vae_lightning.needs import LIKELIHOOD, RATE
from vae_lightning.progress import track
from vae_lightning.schema import Count
from vae_lightning.trained import Trained
from vae_lightning.units import NATS

PORTION = 32  # images between two movements of the progress bar


class Likelihood:
    """The negative log-likelihood, the negative ELBO, and how far apart they are.

    Burda et al. (2016), arXiv:1509.00519, eq. 8, with all test images binarised once. In expectation `nll` lies above
    the true value, and falls with `samples`.

    Args:
        samples: draws of q(z | x) per image.
        images: test images; null: all.
    """

    lower_is_better: Names = ("nll", "bits_per_dim")
    higher_is_better: Names = ("elbo",)

    def __init__(self, samples: Count = 5000, images: Count | None = 1000) -> None:
        self.samples, self.images = samples, images

    def __call__(self, trained: Trained) -> dict[str, Value]:
        """nll, elbo, distortion, rate, gap, bits_per_dim, ess; all but the last in nats per image."""
        refuse(trained, {**RATE, **LIKELIHOOD})
        total = len(trained.data.test[0])
        n = min(self.images or total, total)
        batches = track(
            trained.batches("test", n, PORTION), f"log p(x), {self.samples} samples", math.ceil(n / PORTION)
        )
        found = [importance(trained.model, x, c, self.samples) for x, _, c in batches]
        w = Weights(*(torch.cat(parts).double().cpu() for parts in zip(*found, strict=True)))
        nll, error = -w.log_prob.mean().item(), w.variance.sum().sqrt().item() / n
        spread = w.log_prob.std().item() / math.sqrt(n)
        bits = math.prod(trained.model.likelihood.shape) * math.log(2)
        exact = trained.data.test_log_prob
        some = f"; {n} of {total} test images: ± {spread:.2g} from the choice" if n < total else ""
        values = {
            "nll": Value(nll, NATS, error, f"{self.samples} importance samples{some}"),
            "elbo": Value(w.elbo.mean().item(), NATS),
            "distortion": Value(w.distortion.mean().item(), NATS, note="-E log p(x|z)"),
            "rate": Value((-w.elbo - w.distortion).mean().item(), NATS, note="KL(q(z|x) || p(z))"),
            "gap": Value((w.log_prob - w.elbo).mean().item(), NATS, note="log p(x) - ELBO = KL(q(z|x) || p(z|x))"),
            "bits_per_dim": Value(nll / bits, "bits per dimension of x"),
            "ess": Value(w.ess.median().item(), "samples", note=f"median over images; least {w.ess.min():.1f}"),
        }
        if exact is not None and n == total:
            values["exact_nll"] = Value(-exact, NATS, note="of the distribution that the data were drawn from")
        return values
