"""The model's own p(z)."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_lightning.trace import drawn
from vae_lightning.trained import Trained


class Prior:
    """Draws of the prior that the model was trained with: of the top layer, if there are several."""

    @torch.no_grad()
    def __call__(self, trained: Trained, c: Tensor) -> Tensor:
        """Contexts (n, n_context) -> z (n, *latent)."""
        return drawn(trained.model.prior(c), len(c))
