"""Samples of a model's own prior against test images."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from vae_lightning.data.pixels import scaled
from vae_lightning.metric.features import features
from vae_lightning.metric.manifold import NEAREST, NEAREST_DENSITY, overlap
from vae_lightning.metric.value import Names, NotApplicable, Value
from vae_lightning.paths import expanded
from vae_lightning.progress import track
from vae_lightning.schema import Count
from vae_lightning.trained import Trained

PORTION = 100  # images at a time
LEAST = 20  # images: fewer have no neighbours worth the name
SUBSETS, SUBSET = 100, 1000  # of KID, as its authors have them


class Samples:
    """FID, KID, precision and recall, density and coverage of samples against as many test images.

    Like is compared with like: where the data are binarised, the pixels of a sample are drawn too; otherwise a sample
    is E[x | z]. Contexts of a conditional model are the labels of the test images.

    Args:
        n_samples: how many; no more than there are test images.
        features: `inception`, `classifier` (of these images), or `auto`: Inception's where they can be had.
        train_images: that the classifier is trained on.
        cache: the folder below which the classifier is kept.
    """

    lower_is_better: Names = ("fid", "kid")
    higher_is_better: Names = ("precision", "recall", "density", "coverage")

    def __init__(
        self,
        n_samples: Count = 2000,
        features: Literal["auto", "inception", "classifier"] = "auto",
        train_images: Count = 20_000,
        cache: str = "~/.cache/vae_lightning",
    ) -> None:
        self.n_samples, self.features, self.train_images = n_samples, features, train_images
        self.cache = expanded(cache)

    @torch.no_grad()
    def __call__(self, trained: Trained) -> dict[str, Value]:
        """fid, kid, both of real images in place of samples, precision, recall, density, coverage.

        Raises:
            NotApplicable: these are no images, or too few.
            UserError: Inception is asked for, and cannot be had.
        """
        data = trained.data
        if data.test[0].is_floating_point():
            raise NotApplicable(f"data={trained.choices['data']}: these are no pixels, and no network knows them")
        n = min(self.n_samples, len(data.test[0]), len(data.val[0]) + len(data.train[0]))
        if n < LEAST:
            raise NotApplicable(f"{n} samples against {n} test images: it takes {LEAST}")
        network, note = features(trained, self.features, self.train_images, self.cache)
        binary = data.binarize != "none"
        portions = math.ceil(n / PORTION)
        seen, drawn = [], []
        for x, _, c in track(trained.batches("test", n, PORTION), "samples", portions):
            mean = trained.model.sample(len(x), c).clamp(0, 1)
            seen.append(network(x))
            drawn.append(network(mean.bernoulli() if binary else mean))
        held = trained.images("val", n)[0]
        other = torch.cat([held, trained.images("train", n - len(held))[0]]).split(PORTION)
        floor = [network(scaled(x.to(trained.device))) for x in track(other, "real images in their place", portions)]
        place = "cpu" if trained.device.type == "mps" else trained.device  # which has no float64
        real, fake, others = (torch.cat(parts).to(place).double() for parts in (seen, drawn, floor))
        how = "pixels are 0 or 1, drawn from p(x|z)" if binary else "means of p(x|z)"
        instead = ("validation images" if len(held) == n else "validation and training images") + " in place of samples"
        precision, recall, density, coverage = overlap(real, fake)
        return {
            "fid": Value(frechet(real, fake), note=note),
            "fid_floor": Value(frechet(real, others), note=f"{instead}: what a perfect sampler reaches"),
            "kid": kernel(real, fake, f"{n} samples ({how}) and {n} test images"),
            "kid_floor": kernel(real, others, f"{instead}; 0 is expected"),
            "precision": Value(precision, "of the samples", note=f"look like test images; {NEAREST} neighbours"),
            "recall": Value(recall, "of the test images", note=f"look like samples; {NEAREST} neighbours"),
            "density": Value(density, note=f"1 is expected of a perfect sampler; {NEAREST_DENSITY} neighbours"),
            "coverage": Value(coverage, "of the test images", note="have a sample near them"),
        }


class Given(nn.Module):
    """Features that are there already, where torchmetrics wants a network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x


def frechet(real: Tensor, fake: Tensor) -> float:
    """The Frechet distance of two normal distributions with the moments of features (N, F) and (M, F).

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)). Heusel et al. (2017), arXiv:1706.08500, eq. 6.

    >>> cloud = torch.randn(50, 2)
    >>> round(frechet(cloud, cloud + 3), 4)
    18.0
    """
    metric = FrechetInceptionDistance(Given(real.shape[1])).to(real.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute())


def kernel(real: Tensor, fake: Tensor, note: str = "") -> Value:
    """The squared maximum mean discrepancy of features (N, F) under the kernel (x . y / F + 1)^3.

    Binkowski et al. (2018), arXiv:1801.01401, section 4. It is unbiased: 0 is expected of two samples of one
    distribution, and negative values are found. Subsets of m out of n points spread sqrt(n / m - 1) times as far as
    the value at n (the delete-d jackknife, Shao and Wu, 1989, doi:10.1214/aos/1176347263).
    """
    n = min(len(real), len(fake))
    size = min(SUBSET, n // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features, which are here already
        metric = KernelInceptionDistance(Given(real.shape[1]), SUBSETS, size).to(real.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    value, spread = metric.compute()
    return Value(value.item(), standard_error=spread.item() / math.sqrt(n / size - 1), note=note)
