"""An autoregressive model of a codebook's codes, fitted afterwards."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from vae_lightning.distribution import code
from vae_lightning.distribution.code import NearestCode
from vae_lightning.errors import ConfigError
from vae_lightning.prior.codes import Autoregressive
from vae_lightning.sampler.fit import Fit
from vae_lightning.sampler.sampler import by_label, space
from vae_lightning.schema import Count
from vae_lightning.trained import Batch, Trained


class Codes:
    """Each code given those before it. van den Oord et al. (2017), arXiv:1711.00937, section 3.3, with a recurrent net.

    A uniform prior knows nothing of which codes go together: its samples are noise.

    Args:
        training: how it is trained.
        hidden: width of the recurrent network.
        images: training images whose codes it is fitted to; null: all.
    """

    def __init__(self, training: Fit, hidden: Count = 256, images: Count | None = None) -> None:
        self.training, self.hidden, self.images = training, hidden, images

    def __call__(self, trained: Trained, c: Tensor) -> Tensor:
        """Contexts (n, n_context) -> z (n, D, h, w).

        Raises:
            ConfigError: the model has no codebook.
        """
        if space(trained) != "codes":
            raise ConfigError(
                f"sampler=codes is for posterior=codebook, and this is posterior={trained.choices['posterior']}: "
                "say sampler=mixture, flow, two_stage or prior"
            )
        book: Any = trained.model.infer.posterior
        with torch.no_grad():
            found = [(codes_of(trained, batch), batch.y) for batch in trained.batches("train", self.images)]
        index, y = (torch.cat(part) for part in zip(*found, strict=True))
        return by_label(c, index, y, lambda some: code.Codes(self.fit(some, book.n_codes), book, book.latent_shape))

    def fit(self, index: Tensor, codes: int) -> Autoregressive:
        """Indices (N, P L) of `codes` codes -> their distribution, by maximum likelihood."""
        model = Autoregressive(index.shape[1], codes, self.hidden).to(index.device)
        self.training(model, lambda some: -model.log_prob(some), index, f"the codes of {len(index)} images")
        return model


def codes_of(trained: Trained, batch: Batch) -> Tensor:
    """Indices (B, P L) of the codes of images."""
    return cast(NearestCode, trained.model.encode(batch.x, batch.c)).index
