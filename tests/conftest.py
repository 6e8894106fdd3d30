"""What all tests share: float64, argument validation on, real MNIST where there is a copy, small runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.distributions import Distribution

from vae_lightning.compose import compose
from vae_lightning.paths import CONF
from vae_lightning.train import Run, prepare

MNIST_HERE = Path(__file__).parents[2] / "shared" / "data" / "MNIST"
DRAW_FREE = ["data=digits", "data.binarize=threshold", "data.limit=96", "trainer.enable_progress_bar=false"]


def options(*groups: str) -> list[str]:
    """Every `group=option` found in conf/, of all groups or of some."""
    paths = sorted(CONF.glob("*/*.yaml"))
    return [f"{p.parent.name}={p.stem}" for p in paths if not groups or p.parent.name in groups]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """float64, argument validation and a known seed for each test."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    Distribution.set_default_validate_args(True)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data root with MNIST in it, as torchvision lays it out."""
    source = Path(os.environ.get("VAE_LIGHTNING_MNIST", MNIST_HERE))
    if not source.is_dir():
        pytest.skip(f"no MNIST in {source}; set VAE_LIGHTNING_MNIST to a folder with raw/*.gz")
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(source, root / "MNIST", copy_function=shutil.copyfile)
    return str(root)


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Run]:
    """A prepared run on a few digits in float64: `small("model=conv", folder="a")`."""

    def make(*overrides: str, folder: str = "run") -> Run:
        precision = (
            [] if any("precision" in o or "accelerator=" in o for o in overrides) else ["trainer.precision=64-true"]
        )
        defaults = [] if any(o.startswith("accelerator=") for o in overrides) else ["accelerator=cpu"]
        config, choices = compose([*DRAW_FREE, *defaults, *precision, "trainer.max_epochs=2", "debug=true", *overrides])
        (tmp_path / folder).mkdir(exist_ok=True)
        return prepare(config, choices, tmp_path / folder)

    return make


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw from a normal distribution is its mean."""
    for name in ("rsample", "sample"):
        monkeypatch.setattr(
            torch.distributions.Normal, name, lambda self, shape=(): self.loc.expand(*shape, *self.loc.shape)
        )


def command(*arguments: str, cwd: Path, data: str | None = None, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m vae_lightning` as a user would."""
    env = {**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    if data is not None:
        env["VAE_LIGHTNING_DATA"] = data
    return subprocess.run(
        [sys.executable, "-m", "vae_lightning", *arguments], cwd=cwd, env=env, capture_output=True, text=True, **kwargs
    )


def weights(run: Run) -> dict[str, torch.Tensor]:
    """A copy of all weights of a run."""
    return {name: value.clone() for name, value in run.lit.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights agree bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
