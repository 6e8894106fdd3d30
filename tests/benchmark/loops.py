"""Ways to train: this framework, a loop by hand, pythae's trainer, a DataLoader over torchvision's images.

Each has `epoch()`, which trains for an epoch and returns the seconds it took per image.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmark.harness import clock, seconds
from vae_lightning import step
from vae_lightning.compose import compose
from vae_lightning.data.loader import Minibatch
from vae_lightning.ensemble.meeting import Meeting
from vae_lightning.ensemble.step import Shared
from vae_lightning.ensemble.turns import Turns
from vae_lightning.precision import spare_questions
from vae_lightning.train import prepare


class Stopwatch(L.Callback):
    """Seconds of each training epoch and of all that Lightning does around it, but for the pass over validation images.

    It is the first of all callbacks: checkpoints, curves and the progress bar lie inside. `steps` are the seconds up to
    the last step of an epoch, `starts` when each began.
    """

    def on_train_start(self, *_: object) -> None:
        self.epochs, self.steps, self.starts, self.running = list[float](), list[float](), list[float](), False

    def on_train_epoch_start(self, *_: object) -> None:
        self._finish()
        self.starts.append(clock())
        self.seconds, self.since, self.running = 0.0, clock(), True

    def on_validation_start(self, *_: object) -> None:
        self.seconds += clock() - self.since
        self.steps.append(self.seconds)

    def on_validation_end(self, *_: object) -> None:
        self.since = clock()

    def on_train_end(self, *_: object) -> None:
        self._finish()

    def _finish(self) -> None:
        if self.running:
            self.epochs.append(self.seconds + clock() - self.since)
        self.running = False


class Framework:
    """The full Trainer: curves, checkpoints and progress bar; the pictures of a run are left out.

    Args:
        folder: of the run.
        overrides: of the default configuration.
        loader: in place of the one that serves images from memory.
        at_once: epochs that are trained when one is asked for; if several, the first one warms up, as what is captured
            or compiled is made anew at every start.
    """

    def __init__(self, folder: Path, *overrides: str, loader: DataLoaderChunks | None = None, at_once: int = 1) -> None:
        folder.mkdir()
        self.run = prepare(*compose(["pictures=false", "trainer.max_epochs=1", *overrides]), folder)
        self.images, self.at_once = self.run.data.n_train, at_once
        if loader is not None:
            self.run.data.train_dataloader = lambda: loader
            self.images = loader.images
        self.watch = Stopwatch()
        self.run.trainer.callbacks.insert(0, self.watch)

    def epoch(self) -> float:
        trainer = self.run.trainer
        trainer.fit_loop.max_epochs = trainer.current_epoch + self.at_once
        trainer.fit(self.run.lit, self.run.data)
        return self.whole[-1] if self.at_once == 1 else statistics.median(self.whole[1:])

    @property
    def whole(self) -> list[float]:
        """Seconds per image of each epoch since the last start."""
        return [each / self.images for each in self.watch.epochs]

    @property
    def steps(self) -> list[float]:
        """Those of the steps alone: without checkpoints, and what else is done once an epoch."""
        return [each / self.images for each in self.watch.steps]


def seeds(folder: Path, n: int, *overrides: str) -> list[float]:
    """Seconds of each epoch of `n` seeds that are trained together, or of one alone: all of it, validation included."""
    turns, watch = Turns(Meeting()), Stopwatch()

    def job(seed: int) -> None:
        if n > 1:
            step.make.set(partial(Shared, turns))
        ours = Framework(folder / f"{seed}", f"seed={seed}", "trainer.enable_progress_bar=false", *overrides)
        if seed == 0:
            ours.run.trainer.callbacks[0] = watch
        ours.run.trainer.fit(ours.run.lit, ours.run.data)

    folder.mkdir()
    turns.run({seed: partial(job, seed) for seed in range(n)})
    return [after - before for before, after in pairwise(watch.starts)]


class Bare:
    """What a careful person writes by hand: images in memory, one index operation, fused Adam.

    Args:
        images: (N, ...) uint8, on the device that computes.
        batch_size: images per step.
        encoder: images (B, ...) to parameters (B, 40).
        decoder: z (B, 20) to logits, shaped as the images.
    """

    def __init__(self, images: Tensor, batch_size: int, encoder: nn.Module, decoder: nn.Module) -> None:
        self.images, self.batch_size = images, batch_size
        self.encoder, self.decoder = encoder.to(images.device), decoder.to(images.device)
        self.parameters = [*encoder.parameters(), *decoder.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, fused=True)
        if not images.is_cuda:
            spare_questions(self.optimizer)  # which a process without Lightning in it would not ask

    def epoch(self) -> float:
        """Seconds per image."""
        return seconds(self._epoch) / len(self.images)

    def _epoch(self) -> None:
        for chosen in torch.randperm(len(self.images), device=self.images.device).split(self.batch_size):
            grey = self.images[chosen].float() / 255
            x = (torch.rand_like(grey) < grey).float()
            mean, log_variance = self.encoder(x).chunk(2, -1)
            sigma = (log_variance / 2).exp()
            logits = self.decoder(mean + sigma * torch.randn_like(mean))
            distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            rate = 0.5 * (mean**2 + sigma**2 - 1 - log_variance).sum()
            self.optimizer.zero_grad()
            ((distortion + rate) / len(x)).backward()
            self.optimizer.step()


def bare_mlp(images: Tensor, batch_size: int, width: int = 400) -> Bare:
    """The default model for images (N, 1, 28, 28), with hidden layers of this width."""
    encoder = nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 40))
    decoder = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, 784))
    return Bare(images.flatten(1), batch_size, encoder, decoder)


def pythae_model(encoder: nn.Module, decoder: nn.Module) -> Any:
    """pythae's VAE of networks of this framework, (x, c) to parameters."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = encoder

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.network(x, x.new_zeros(len(x), 0)).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.network(z, z.new_zeros(len(z), 0)).sigmoid())

    return VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce"), Encoder(), Decoder())


class Pythae:
    """The training half of pythae's BaseTrainer, with its usual settings and callbacks.

    Args:
        folder: for what it writes.
        images: (N, 1, 28, 28) floats in [0, 1], which pythae keeps in memory.
        encoder, decoder: networks of this framework, (x, c) to parameters; trained in place.
        batch_size: images per step.
    """

    def __init__(self, folder: Path, images: Tensor, encoder: nn.Module, decoder: nn.Module, batch_size: int) -> None:
        from pythae.data.datasets import BaseDataset
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        model = pythae_model(encoder, decoder)
        settings = BaseTrainerConfig(
            output_dir=str(folder), per_device_train_batch_size=batch_size, learning_rate=1e-3, no_cuda=True
        )
        self.images, self.done = len(images), 0
        self.trainer = BaseTrainer(model, BaseDataset(images, torch.ones(len(images))), training_config=settings)
        self.trainer.prepare_training()

    def epoch(self) -> float:
        self.done += 1
        return seconds(self._epoch) / self.images

    def _epoch(self) -> None:
        about = {"training_config": self.trainer.training_config}
        self.trainer.callback_handler.on_epoch_begin(**about, epoch=self.done, train_loader=self.trainer.train_loader)
        self.trainer.train_step(self.done)
        self.trainer.callback_handler.on_epoch_end(**about)


def template_loader(root: str, batch_size: int, workers: int, images: int) -> DataLoader[Any]:
    """The data path of the well-known Lightning and Hydra template, for MNIST: torchvision's data sets with ToTensor
    and Normalize, joined, divided at random and served by a DataLoader. Normalize has mean 0 and deviation 1 here,
    which costs as much and leaves grey values in [0, 1].
    """
    transform = Compose([ToTensor(), Normalize((0.0,), (1.0,))])
    both = ConcatDataset([MNIST(root, train, transform) for train in (True, False)])
    chosen = torch.randperm(len(both))[:images].tolist()
    return DataLoader(Subset(both, chosen), batch_size, shuffle=True, num_workers=workers)


class DataLoaderChunks:
    """Grey images (B, 1, 28, 28) and labels of a DataLoader as minibatches for this framework, one at a time."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader, self.images = loader, len(loader.dataset)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Minibatch]]:
        for i, (grey, y) in enumerate(self.loader):
            x = (torch.rand_like(grey) < grey).float()
            yield [Minibatch(x, y, i, i / len(self.loader), len(x), 1.0, True, len(x))]
