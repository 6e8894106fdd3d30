"""log p(x) by importance sampling, in portions that fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_lightning.heap import keep_freed_memory

IN_CACHE = 2**22  # numbers that the decoder gives at once: fewer make slow products, more leave the cache
ON_GPU = 2**26


class Weights(NamedTuple):
    """What importance weights say of each image; shape (B,)."""

    log_prob: Tensor  # nats: in expectation a lower bound of log p(x), which rises with the samples
    variance: Tensor  # of log_prob, by the delta method
    ess: Tensor  # effective number of samples, (sum w)^2 / sum w^2
    elbo: Tensor  # nats
    distortion: Tensor


@torch.no_grad()
def importance(model: Any, x: Tensor, c: Tensor, samples: int, chunk: int | None = None) -> Weights:
    """Weigh `samples` draws of q(z | x) for each image. Burda et al. (2016), arXiv:1509.00519, eq. 8.

    Args:
        model: a VAE with a likelihood.
        x: images (B, C, H, W).
        c: (B, n_context).
        samples: per image.
        chunk: samples per image at a time; by default so many that memory stays flat.
    """
    if x.device.type == "cpu":
        keep_freed_memory()
    rows = _rows(x.device, math.prod(model.likelihood.param_shape))
    found = []
    for images, contexts in zip(x.split(max(1, rows // 64)), c.split(max(1, rows // 64)), strict=True):
        parts = [_portion(model, images, contexts, n) for n in _portions(samples, chunk or max(1, rows // len(images)))]
        log_sum, log_squares = (torch.stack([p[i] for p in parts]).logsumexp(0) for i in (0, 1))
        elbo, distortion = (torch.stack([p[i] for p in parts]).sum(0) / samples for i in (2, 3))
        ess = (2 * log_sum - log_squares).exp()
        found.append(Weights(log_sum - math.log(samples), (1 / ess - 1 / samples).clamp(min=0), ess, elbo, distortion))
    return Weights(*(torch.cat(values) for values in zip(*found, strict=True)))


def _portion(model: Any, x: Tensor, c: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logarithms of the sums of w and of w^2, and sums of log w and of the distortion, over n samples; (B,) each."""
    trace = model(x, c, n)
    log_likelihood = trace.log_likelihood()
    log_w = trace.log_weight(log_likelihood)
    first, second = trace.log_mean_exp(log_w)[0], trace.log_mean_exp(2 * log_w)[0]
    size = math.log(n)
    return first + size, second + size, trace.expect(log_w) * n, -trace.expect(log_likelihood) * n


def _portions(samples: int, chunk: int) -> Iterator[int]:
    return (min(chunk, samples - done) for done in range(0, samples, chunk))


def _rows(device: torch.device, outputs: int) -> int:
    """How many images the decoder makes at a time."""
    elements = IN_CACHE
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        elements = min(ON_GPU, free // 1024)  # four bytes a number, and layers that are wider than the image
    return max(1, elements // outputs)
