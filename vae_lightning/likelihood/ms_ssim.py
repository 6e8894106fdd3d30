"""Multi-scale structural similarity: an energy."""

from __future__ import annotations

import torch
from torch import Tensor, distributions, nn
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as similarity

from vae_lightning.distribution.energy import Energy
from vae_lightning.needs import PIXELS
from vae_lightning.schema import Count, Positive

TRAITS = {"density": False}
NEEDS = {**PIXELS}
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class MSSSIM(nn.Module):
    """weight (1 - MS-SSIM): pictures that look alike cost little. Snell et al. (2017), arXiv:1511.06409, section 3.

    Wang et al. (2003), "Multiscale structural similarity for image quality assessment", eq. 7, whose five exponents
    are cut to the first few scales and made to sum to one. Each scale's similarity s counts as (1 + s) / 2: the roots
    of a negative one, and of zero, have no gradient.

    >>> image = torch.rand(1, 28, 28)
    >>> head = MSSSIM(shape=(1, 28, 28))
    >>> head(torch.logit(image).expand(5, 1, 28, 28)).log_prob(image).abs().max() < 1e-3
    tensor(True)

    Args:
        shape: (C, H, W).
        weight: nats between an image and one with nothing in common.
        scales: how many times the image is looked at, halved each time.
        kernel_size: of the uniform window, odd.

    Raises:
        ValueError: the images are too small for so many scales.
    """

    density = False

    def __init__(
        self, shape: tuple[int, ...], weight: Positive = 100.0, scales: Count = 3, kernel_size: Count = 5
    ) -> None:
        super().__init__()
        self.shape = self.param_shape = tuple(shape)
        least = (kernel_size - 1) * 2 ** (scales - 1) + 1
        if min(shape[-2:]) < least or scales > len(BETAS) or kernel_size % 2 == 0:
            raise ValueError(
                f"likelihood.scales={scales} (at most 5) with likelihood.kernel_size={kernel_size} (odd) needs images "
                f"of at least {least}x{least} pixels, these have {shape[-2]}x{shape[-1]}: take fewer scales"
            )
        self.weight, self.kernel_size = weight, kernel_size
        self.betas = tuple(b / sum(BETAS[:scales]) for b in BETAS[:scales])

    def forward(self, params: Tensor) -> distributions.Distribution:
        """logits (..., C, H, W) -> energy, batch (...), event (C, H, W)."""
        return Energy(params.sigmoid(), self.cost)

    def cost(self, x: Tensor, mean: Tensor) -> Tensor:
        """Images and reconstructions (..., C, H, W) -> nats (...)."""
        value = similarity(
            mean.flatten(0, -4),
            x.flatten(0, -4).to(mean.dtype),
            gaussian_kernel=False,
            kernel_size=self.kernel_size,
            reduction="none",
            data_range=1.0,
            betas=self.betas,
            normalize="simple",
        )
        assert isinstance(value, torch.Tensor)
        return self.weight * (1 - value.view(mean.shape[:-3]))
