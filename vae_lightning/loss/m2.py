"""Semi-supervised: the label is a latent variable where it is not known."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_lightning.gather import gather
from vae_lightning.model.mlp import MLP
from vae_lightning.needs import LIKELIHOOD, RATE
from vae_lightning.schema import Count, NonNegative
from vae_lightning.trace import Trace

NEEDS = {
    **RATE,
    **LIKELIHOOD,
    "condition": (["label"], "the networks must see the label: say condition=label data.labelled=1000"),
}


class M2(nn.Module):
    """Model M2. Kingma et al. (2014), arXiv:1406.5298, eq. 6-9.

    With a label y an image costs distortion + rate + log K + alpha N / N_labelled times the cross-entropy of the
    classifier q(y|x); without one, the mean of distortion + rate over q(y|x), and KL(q(y|x) || uniform). The terms
    `distortion` and `rate` are always those of an image whose label is not known (the rate with that of y), so that
    `elbo` bounds log p(x). `accuracy` is that of the classifier, on images with a label.

    >>> M2((1, 28, 28), n_classes=10, n_train=60_000, n_labelled=600).weight
    10.0

    Args:
        shape: (C, H, W).
        n_classes: K.
        n_train: N, all training images.
        n_labelled: how many of them have a label; see data.labelled.
        alpha: weight of the classification.
        hidden: widths of the classifier's layers.
        samples: draws of z per image and label.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        n_classes: int,
        n_train: int,
        n_labelled: int,
        alpha: NonNegative = 0.1,
        hidden: list[Count] = [400],  # noqa: B006
        samples: Count = 1,
    ) -> None:
        super().__init__()
        self.classifier = MLP(shape, (n_classes,), hidden=hidden)
        self.n_classes, self.samples = n_classes, samples
        self.weight = alpha * n_train / max(n_labelled, 1)

    def forward(self, model: nn.Module, x: Tensor, c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, C, H, W), labels (B, K) one-hot or all zero -> the loss and its terms, in nats per image."""
        k, labelled = self.n_classes, c.sum(1) > 0
        log_q = self.classifier(x, c[:, :0]).log_softmax(-1)  # (B, K)
        labels = torch.eye(k, dtype=c.dtype, device=c.device).repeat_interleave(len(x), 0)
        trace: Trace = model(x.repeat(k, 1, 1, 1), labels, self.samples)
        distortions = -trace.expect(trace.log_likelihood()).view(k, -1).T  # (B, K)
        rates = trace.rate().expand(k * len(x)).view(k, -1).T
        q = log_q.exp()
        distortion = (q * distortions).sum(1)
        rate = (q * (rates + log_q)).sum(1) + math.log(k)
        known = (c * (distortions + rates)).sum(1) + math.log(k)
        wrong = -(c * log_q).sum(1)
        right = (log_q.argmax(1) == c.argmax(1)).to(c.dtype)
        loss = torch.where(labelled, known + self.weight * wrong, distortion + rate).mean()
        right, labels = gather(right * labelled), gather(labelled.to(c.dtype))
        accuracy = right.sum() / labels.sum().clamp(min=1)
        return loss, {"distortion": distortion.mean(), "rate": rate.mean(), "accuracy": accuracy}
