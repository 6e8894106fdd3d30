"""Why the ELBO lies below log p(x): the family of q, or the encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_lightning.importance import importance
from vae_lightning.metric.value import Names, Value, refuse
from vae_lightning.model.vae import VAE
from vae_lightning.needs import BOUND, ONE_LATENT
from vae_lightning.progress import track
from vae_lightning.schema import Count, Positive
from vae_lightning.trace import Latent, Trace, constant, draw
from vae_lightning.trained import Trained
from vae_lightning.units import NATS


class InferenceGap:
    """The gap between log p(x) and the ELBO, in two parts. Cremer et al. (2018), arXiv:1801.03558, eq. 4.

    The approximation gap is what the best q of the family leaves, found for each image by gradient steps on its
    parameters; the amortisation gap is what the encoder leaves beyond that. log p(x) is estimated with the best q.

    Args:
        images: test images.
        steps: of Adam, with a learning rate that falls to zero as a cosine.
        draws: per step and image.
        lr: of Adam, at first.
        samples: for the bounds and log p(x) in the end.
    """

    lower_is_better: Names = ()
    higher_is_better: Names = ()

    def __init__(
        self, images: Count = 64, steps: Count = 400, draws: Count = 8, lr: Positive = 0.03, samples: Count = 5000
    ) -> None:
        self.images, self.steps, self.draws, self.lr, self.samples = images, steps, draws, lr, samples

    def __call__(self, trained: Trained) -> dict[str, Value]:
        """approximation_gap and amortisation_gap, in nats per image."""
        refuse(trained, {**BOUND, **ONE_LATENT})
        x, _, c = trained.first("test", self.images)
        model = trained.model
        with constant(model):
            free, params = Free(model), model.infer.encoder(x, c).detach()
            params = self._best(free, x, c, params.requires_grad_()).detach()
        own = importance(model, x, c, self.samples)
        ideal = importance(free, x, torch.cat([c, params.flatten(1)], 1), self.samples)
        exact = torch.maximum(own.log_prob, ideal.log_prob)
        return {
            "approximation_gap": _mean(exact - ideal.elbo, f"log p(x) - ELBO of the best q; {len(x)} test images"),
            "amortisation_gap": _mean(ideal.elbo - own.elbo, "ELBO of the best q - ELBO of the encoder's"),
        }

    def _best(self, free: Free, x: Tensor, c: Tensor, params: Tensor) -> Tensor:
        """Parameters of q (B, ...) that are better for each image than those that they start at."""
        optimizer = torch.optim.Adam([params], self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in track(range(self.steps), "the best q for each image"):
            optimizer.zero_grad()
            trace = free(x, torch.cat([c, params.flatten(1)], 1), self.draws)
            (-trace.expect(trace.log_weight()).sum()).backward()
            optimizer.step()
            schedule.step()
        return params


class Free:
    """A model whose q does not come from its encoder: the parameters stand behind the context of each image."""

    def __init__(self, model: VAE) -> None:
        self.model, self.likelihood = model, model.likelihood

    def __call__(self, x: Tensor, given: Tensor, samples: int) -> Trace:
        """x (B, C, H, W), given (B, n_context + parameters) -> a Trace with `samples` draws per image."""
        head = self.model.infer.posterior
        c, params = given[:, : self.model.n_context], given[:, self.model.n_context :]
        q = head(params.unflatten(1, head.param_shape))
        z, log_share = draw(q, samples)
        return Trace(x, self.model.generate(z, c), (Latent(q, self.model.prior(c), z, lambda: q, log_share),))


def _mean(values: Tensor, note: str) -> Value:
    return Value(values.mean().item(), NATS, values.std().item() / math.sqrt(len(values)), note)
