"""The Inception network whose features FID was defined in."""

from __future__ import annotations

import hashlib
import logging
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from vae_lightning.atomic import replaced
from vae_lightning.errors import UserError

TIMEOUT = 10.0  # seconds without an answer

log = logging.getLogger("vae_lightning")


def inception(shape: tuple[int, ...], device: torch.device) -> Callable[[Tensor], Tensor]:
    """Images (B, C, H, W) in [0, 1] to 2048 features, (B, 2048).

    The network of Heusel et al. (2017), arXiv:1706.08500, as torch-fidelity ported it; grey images become colour
    images with three equal channels.

    Args:
        shape: of an image, (C, H, W).
        device: where it is to run.

    Raises:
        UserError: torch-fidelity is not installed, its weights cannot be had, or these are no grey or colour images.
    """
    if shape[0] not in (1, 3):
        raise UserError(f"Inception takes grey or colour images, not {shape[0]} channels")
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
    except ImportError as error:
        raise UserError('Inception needs torch-fidelity: pip install "vae-lightning[fid]"') from error
    path = _weights(URL_INCEPTION_V3)
    torch.load(
        path, map_location="cpu", weights_only=True
    )  # refuses a file with code in it; torch-fidelity would run it
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path)).to(device)

    def features(x: Tensor) -> Tensor:
        found: Tensor = network((255 * x).round().byte().expand(-1, 3, -1, -1))[0]
        return found

    return features


def _weights(url: str) -> Path:
    """The file of the weights in torch hub's cache; downloads it if it is not there. Its name ends with its SHA-256."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    instead = "or say metric.samples.features=classifier"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if path.is_file():
                if not _whole(path.read_bytes(), path):
                    raise UserError(f"{path}: damaged. Delete the file, and it is downloaded again; {instead}")
                return path
            log.info("downloading %s", url)
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                content = answer.read()
            if not _whole(content, path):
                raise UserError(f"{url}: what came is not {path.name}. Put the file into {path.parent}; {instead}")
            with replaced(path, "wb") as file:
                file.write(content)
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{url} cannot be had ({reason}). Put the file into {path.parent}; {instead}") from error
    return path


def _whole(content: bytes, path: Path) -> bool:
    return hashlib.sha256(content).hexdigest().startswith(path.stem.rpartition("-")[2])
