"""A small classifier of the images themselves, for the sake of its features; kept in a cache."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vae_lightning.atomic import replaced
from vae_lightning.data.pixels import scaled
from vae_lightning.progress import track

WIDTH = 64  # features
STEPS, BATCH, RATE, SEED = 1000, 128, 0.01, 0
SMALLEST = 4  # pixels a side, after the convolutions

log = logging.getLogger("vae_lightning")
Weights = dict[str, Tensor]


class Classifier(nn.Module):
    """Convolutions of stride 2 down to 4x4, a dense layer whose 64 outputs are the features, and logits.

    Each feature has about mean 0 and variance 1 over the training images, so that distances have a scale.

    >>> network = Classifier((1, 28, 28), n_classes=10).eval()
    >>> x = torch.rand(5, 1, 28, 28)
    >>> network.features(x).shape, network(x).shape
    (torch.Size([5, 64]), torch.Size([5, 10]))
    """

    def __init__(self, shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        layers: list[nn.Module] = []
        wide = 16
        while max(height, width) > SMALLEST:
            convolution = nn.Conv2d(channels, wide, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(wide), nn.ReLU()]
            channels, height, width, wide = wide, (height + 1) // 2, (width + 1) // 2, min(2 * wide, WIDTH)
        dense = nn.Linear(channels * height * width, WIDTH, bias=False)
        self.features = nn.Sequential(*layers, nn.Flatten(), dense, nn.BatchNorm1d(WIDTH, affine=False))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, n_classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def classifier(x: Tensor, y: Tensor, name: str, cache: Path, device: torch.device) -> Classifier:
    """A classifier of these images, trained once: it is kept in `<cache>/classifier/`, by what it was trained on.

    Args:
        x: images as they are kept (N, C, H, W).
        y: labels (N,), from 0.
        name: of the data, for the file.
        cache: a folder.
        device: where to train.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)  # torch.manual_seed would reach a GPU's too
        network = Classifier(tuple(x.shape[1:]), int(y.max()) + 1).float().to(device)
    recipe = f"{network} {x.dtype} {tuple(x.shape)} {STEPS} {BATCH} {RATE} {SEED}"
    digest = hashlib.sha256(recipe.encode())
    for part in (x, y):
        digest.update(part.cpu().contiguous().numpy().tobytes())
    file = f"{re.sub(r'[^A-Za-z0-9]+', '_', name)}-{digest.hexdigest()[:16]}.safetensors"
    network.load_state_dict(_cached(cache / "classifier" / file, lambda: train(network, x, y)))
    return network.eval().requires_grad_(False)


@torch.enable_grad()
def train(network: Classifier, x: Tensor, y: Tensor) -> Weights:
    """Adam on the cross-entropy, with the same minibatches each time; the weights, on the CPU."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    network.train()
    for _ in track(range(STEPS), "training a classifier, once, for its features"):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        loss = F.cross_entropy(network(scaled(x[chosen]).float().to(device)), y[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}


@torch.no_grad()
def accuracy(network: Classifier, x: Tensor, y: Tensor) -> float:
    """The share of images, as they are kept (N, C, H, W), whose label (N,) is the likeliest."""
    device = next(network.parameters()).device
    right = [
        network(scaled(images).float().to(device)).argmax(1).cpu() == labels
        for images, labels in zip(x.split(500), y.split(500), strict=True)
    ]
    return torch.cat(right).double().mean().item()


def rotations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Square images (N, C, H, H) in four orientations, (4 N, C, H, H), and which, (4 N,): labels that need no labels.

    Gidaris et al. (2018), arXiv:1803.07728.
    """
    return torch.cat([x.rot90(turns, (2, 3)) for turns in range(4)]), torch.arange(4).repeat_interleave(len(x))


def _cached(path: Path, make: Callable[[], Weights]) -> Weights:
    """What the file holds; if it is not there, or damaged, what `make` makes, which is then kept in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            weights = _read(path)
            if weights is None:
                weights = make()
                with replaced(path, "wb") as file:
                    file.write(save(weights, {"sha256": _digest(weights)}))
            return weights
    except OSError as error:
        log.warning("%s: cannot be written (%s): the classifier is not kept", path, error.strerror)
        return make()


def _read(path: Path) -> Weights | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if (file.metadata() or {}).get("sha256") == _digest(weights):
                return weights
    except SafetensorError:
        pass
    log.warning("%s: damaged; the classifier is trained again", path)
    return None


def _digest(weights: Weights) -> str:
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(f"{key} {tuple(weights[key].shape)}".encode())
        digest.update(weights[key].numpy().tobytes())
    return digest.hexdigest()
