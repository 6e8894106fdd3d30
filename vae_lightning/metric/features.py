"""The features in which images are compared."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from vae_lightning.errors import UserError
from vae_lightning.metric.classifier import accuracy, classifier, rotations
from vae_lightning.metric.inception import inception
from vae_lightning.metric.value import NotApplicable
from vae_lightning.trained import Trained

Network = Literal["auto", "inception", "classifier"]

log = logging.getLogger("vae_lightning")


class Features(NamedTuple):
    """A network, and what it is."""

    network: Callable[[Tensor], Tensor]  # images (B, C, H, W) in [0, 1] -> (B, F)
    note: str


def features(trained: Trained, which: Network, train_images: int, cache: Path) -> Features:
    """The features that `which` names, for the images that `trained` was trained on.

    Args:
        trained: a model with its data.
        which: `auto` is Inception where it can be had, otherwise a classifier of these images.
        train_images: that the classifier is trained on.
        cache: the folder below which the classifier is kept.

    Raises:
        UserError: Inception is asked for, and cannot be had.
        NotApplicable: there is nothing to classify.
    """
    if which != "classifier":
        try:
            return Features(inception(trained.data.shape, trained.device), "features of Inception")
        except UserError as error:
            if which == "inception":
                raise
            log.info("%s; features of a classifier are taken instead", error)
    return _own(trained, train_images, cache)


def _own(trained: Trained, train_images: int, cache: Path) -> Features:
    """Features of a classifier of labels, if all images have one and they differ; of orientations otherwise."""
    (x, y), (x_test, y_test) = trained.images("train", train_images), trained.images("test", train_images)
    what = "images"
    if min(y.min(), y_test.min()) < 0 or len(y.unique()) < 2:
        if x.shape[-1] != x.shape[-2]:
            raise NotApplicable(
                "images that are not square, without labels of two classes, train no classifier: say "
                "metric.samples.features=inception"
            )
        (x, y), (x_test, y_test) = rotations(x), rotations(x_test)
        what = "images' orientations, as they have no labels"
    network = classifier(x, y, trained.choices["data"], cache, trained.device)
    right = accuracy(network, x_test, y_test)

    def own(images: Tensor) -> Tensor:
        found: Tensor = network.features(images.float())
        return found

    return Features(
        own,
        f"features of a classifier of these {what} ({right:.1%} accuracy), not of Inception: compare within one data "
        "set only",
    )
