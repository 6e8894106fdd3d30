"""What all tests share: float64, argument validation on, and a copy of the real MNIST where there is one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

MNIST_HERE = Path(__file__).parents[2] / "shared" / "data" / "MNIST"


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data root with MNIST in it, as torchvision lays it out."""
    source = Path(os.environ.get("VAE_LIGHTNING_MNIST", MNIST_HERE))
    if not source.is_dir():
        pytest.skip(f"no MNIST in {source}; set VAE_LIGHTNING_MNIST to a folder with raw/*.gz")
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(source, root / "MNIST", copy_function=shutil.copyfile)
    return str(root)
