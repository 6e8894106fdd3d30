"""Where one moves: the latents of test images, and what encoder, decoder and prior make of a point."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_lightning.context import one_hot
from vae_lightning.explore.drawing import Habit
from vae_lightning.explore.plane import Plane
from vae_lightning.picture.subject import Subject
from vae_lightning.sampler.prior import Prior
from vae_lightning.trained import Trained, centre

SPREADS = 3  # standard deviations of the aggregate posterior to each side, on a slider
LEAST = 0.01  # from end to end of a slider


class Space:
    """The latents of a trained model, flat (D,) and on the CPU, beside the images that they stand for.

    Args:
        trained: a model whose latents are real numbers, or directions.
        images: test images to find one's way by.
        sliders: latents to be moved one by one, at most.
        seed: of all draws.
    """

    def __init__(self, trained: Trained, images: int, sliders: int, seed: int = 0) -> None:
        self.trained, self.model, self.seed = trained, trained.model, seed
        self.subject = Subject(trained.model, *trained.first("test", images), seed)
        found = self.subject.encoded
        self.means, draws = (z.flatten(1).cpu() for z in (found.mean, found.draw))
        self.middle, self.spread = draws.mean(0), draws.std(0, correction=0)
        self.plane = Plane.through(self.means.double())
        if found.rates is None:
            self.worth, self.worth_is = self.means.var(0, correction=0), "variance of the mean"
        else:
            self.worth, self.worth_is = found.rates.mean(0).cpu(), "rate, nats per image"
        self.order: list[int] = self.worth.argsort(descending=True, stable=True)[:sliders].tolist()
        self.habit = Habit.of(trained.data.train[0], trained.data.binarize)
        self.x, self.labels = self.subject.x.cpu(), self.subject.y.cpu()
        self.classes: list[int] = sorted(set(self.labels.tolist()) - {-1})

    def range(self, dim: int) -> tuple[float, float]:
        """From where to where a slider goes: three standard deviations of the aggregate posterior to each side."""
        middle, reach = self.middle[dim].item(), max(SPREADS * self.spread[dim].item(), LEAST)
        return middle - reach, middle + reach

    def decode(self, z: Tensor, label: int = -1) -> Tensor:
        """z (N, D) -> E[x | z], (N, C, H, W) in [0, 1]; the same for the same z, whatever the layers below draw."""
        points = self.subject.onto(self._like_images(z).unflatten(1, self.model.latent_shape))
        return self.subject.decode(points.unsqueeze(0), self._context(label, len(z)))[0]

    @torch.no_grad()
    def encode(self, x: Tensor, label: int = -1) -> tuple[Tensor, Tensor]:
        """Images x (N, C, H, W) in [0, 1] -> the means of q(z | x), (N, D), and the reconstructions."""
        x, c = self._like_images(x), self._context(label, len(x))
        self.subject.reseed()
        again = self.subject.shown(self.model.reconstruct(x, c))
        return self.subject.onto(centre(self.model.encode(x, c))).flatten(1).cpu(), again

    def draw(self, number: int, label: int = -1) -> Tensor:
        """The draw of this number from the model's own prior, (D,)."""
        torch.manual_seed(self.seed + number)
        return Prior()(self.trained, self._context(label, 1)).flatten().cpu()

    def _context(self, label: int, n: int) -> Tensor:
        return one_hot(torch.full((n,), label, device=self.trained.device), self.model.n_context)

    def _like_images(self, t: Tensor) -> Tensor:
        return t.to(self.subject.x)
