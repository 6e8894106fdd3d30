"""What all tests share: float64, argument validation on, real MNIST where there is a copy, small runs."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.distributions import Distribution

from vae_lightning.build import build_loss, build_model
from vae_lightning.check import Target, read
from vae_lightning.compose import compose
from vae_lightning.data.digits import Digits
from vae_lightning.model.vae import VAE
from vae_lightning.paths import CONF
from vae_lightning.train import Run, prepare

MNIST_HERE = Path(__file__).parents[2] / "shared" / "data" / "MNIST"
CHECKPOINTS = ["best.ckpt", "best.ckpt.sha256", "last.ckpt", "last.ckpt.sha256"]  # of a run folder
DRAW_FREE = ["data=digits", "data.binarize=threshold", "data.limit=96", "trainer.enable_progress_bar=false"]


# What an option needs beside it.
GREY = ["data.binarize=none"]
POINT, CODES = ["posterior=point"], ["posterior=codebook", "prior=codes", "loss=vq"]
COMPANIONS = {
    "posterior=gumbel": ["prior=categorical"],
    "posterior=joint": ["prior=joint"],
    "posterior=von_mises_fisher": ["prior=uniform_sphere"],
    "posterior=codebook": ["prior=codes", "loss=vq", "posterior.codes=8", "posterior.grid=[2,2]"],
    "posterior=point": ["loss=ae"],
    "prior=categorical": ["posterior=gumbel"],
    "prior=joint": ["posterior=joint"],
    "prior=uniform_sphere": ["posterior=von_mises_fisher"],
    "prior=codes": ["posterior=codebook", "loss=vq", "prior.kind=autoregressive", "posterior.grid=[2,2]"],
    "prior=conditional": ["condition=label"],
    "prior=vamp": ["prior.pseudo_inputs=7"],
    "loss=ae": POINT,
    "loss=rae": POINT,
    "loss=vq": CODES[:2],
    "loss=m2": ["condition=label"],
    "loss=vae_gan": ["loss.critic_channels=[4,8]"],
    "loss=factor": ["loss.critic_hidden=[16,16]"],
    **{f"likelihood={name}": GREY for name in (
        "normal", "laplace", "continuous_bernoulli", "logistic", "cross_entropy"
    )},
    "likelihood=categorical": [*GREY, "model.hidden=[16]"],  # 256 outputs a pixel
    "data=vectors": ["likelihood=normal", *GREY],
    "data=cifar10": ["likelihood=normal"],
    "data=folder": ["likelihood=normal"],
}  # fmt: skip


TRAINING = [next(iter(entry)) for entry in OmegaConf.load(CONF / "config.yaml").defaults if entry != "_self_"]


def options(*groups: str) -> list[str]:
    """Every `group=option` found in conf/, of all groups that a training has, or of some."""
    paths = sorted(CONF.glob("*/*.yaml"))
    return [f"{p.parent.name}={p.stem}" for p in paths if p.parent.name in (groups or TRAINING)]


def names(group: str) -> list[str]:
    """Every option of a group."""
    return [option.partition("=")[2] for option in options(group)]


def target(group: str, name: str) -> Target:
    """What the source of an option says of itself."""
    return read(composed(f"{group}={name}")[0][group]["_target_"])


@cache
def composed(*overrides: str) -> tuple[DictConfig, dict[str, Any]]:
    """As `compose`, remembered: not to be changed."""
    return compose(overrides)


def combined(overrides: Iterable[str] = (), **chosen: str) -> tuple[DictConfig, dict[str, Any]]:
    """The configuration of some options, one a group, without composing each combination."""
    config, choices = composed(*overrides)
    config, choices = config.copy(), {**choices, **chosen}
    for group, name in chosen.items():
        config[group] = composed(f"{group}={name}", *overrides)[0][group]
    return config, choices


def parts(config: DictConfig, shape: tuple[int, ...] = (1, 8, 8), n_train: int = 100) -> tuple[VAE, nn.Module]:
    """The model and the loss that `config` describes, in float64, for images of `shape`."""
    n_context = 10 if config.condition == "label" else 0
    facts = {"shape": shape, "n_train": n_train, "n_classes": 10, "n_labelled": n_train, "n_context": n_context}
    model = build_model(config, **facts).double()
    return model, build_loss(config, **facts, latent_shape=model.latent_shape).double()


@cache
def digits(n: int = 64, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary images (n, 1, size, size) of handwritten digits, and their labels one-hot (n, 10)."""
    raw = Digits(size=size).read(None).train
    return (raw[0][:n] > 127).double(), torch.eye(10, dtype=torch.float64)[raw[1][:n]]


def context(config: DictConfig, c: torch.Tensor) -> torch.Tensor:
    """Labels (n, 10), if the networks of `config` see them."""
    return c if config.condition == "label" else c[:, :0]


Small = Callable[..., Run]  # what the fixture `small` gives
SMALL = ["model.hidden=[16]", "model.latent_dim=4"]


def ready(option: str, *overrides: str) -> tuple[VAE, nn.Module, torch.Tensor, torch.Tensor]:
    """Model and loss of an option with its companions, and digits with their labels."""
    small = [] if "model=" in " ".join([option, *overrides]) else SMALL
    config, _ = composed(option, *COMPANIONS.get(option, []), *small, *overrides)
    x, y = digits(64, 28 if "ms_ssim" in option else 16)
    torch.manual_seed(0)
    model, loss = parts(config, tuple(x.shape[1:]), n_train=64)
    return model, loss, x, context(config, y)


def pytest_collection_finish() -> None:
    """What has been imported stays: Python's collector need not look through it again and again."""
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # some libraries complain of what is not collected at the end


def pytest_configure() -> None:
    """Several workers share the cores: a thread each."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """float64, argument validation and a known seed for each test.

    With `debug=true` autograd checks all gradients. It also writes down, at each operation, the lines that led to it:
    half of the time of a small run, as there are seventy, and nobody reads them.
    """
    monkeypatch.setattr(torch.fx.traceback, "format_stack", list)
    _as_at_the_start()
    torch.set_default_dtype(torch.float64)
    Distribution.set_default_validate_args(True)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)  # also where a fixture of the module has changed it
    _as_at_the_start()


def _as_at_the_start() -> None:
    """A command that was run in this process, be it by a fixture, has set variables; others are forked without any."""
    for name in os.environ.keys() - forked.STARTED.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    os.environ.update(forked.STARTED)


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data root with MNIST in it, as torchvision lays it out."""
    source = Path(os.environ.get("VAE_LIGHTNING_MNIST", MNIST_HERE))
    if not source.is_dir():
        pytest.skip(f"no MNIST in {source}; set VAE_LIGHTNING_MNIST to a folder with raw/*.gz")
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(source, root / "MNIST", copy_function=shutil.copyfile)
    return str(root)


def configured(*overrides: str) -> tuple[DictConfig, dict[str, Any]]:
    """As `compose`, but that what differs in values alone is composed once: these are set as Hydra does it, at last."""
    values = [o for o in overrides if o[0] not in "+~" and o.partition("=")[0] not in TRAINING]
    config, choices = composed(*(o for o in overrides if o not in values))
    config = config.copy()
    for value in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(config, value.key_or_group, value.value(), merge=True)
    return config, dict(choices)


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Run]:
    """A prepared run on a few digits in float64, of narrow networks: `small("posterior=laplace", folder="a")`."""

    def make(*overrides: str, folder: str = "run") -> Run:
        told = " ".join(overrides)
        precision = [] if "precision" in told or "accelerator=" in told else ["trainer.precision=64-true"]
        defaults = [] if any(o.startswith("accelerator=") for o in overrides) else ["accelerator=cpu"]
        narrow = [] if any(o.startswith(("model=", "model.hidden=")) for o in overrides) else ["model.hidden=[64]"]
        how = [*DRAW_FREE, *defaults, *precision, *narrow, "trainer.max_epochs=2", "debug=true", *overrides]
        config, choices = configured(*how)
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


def command(
    *arguments: str, cwd: Path, data: str | None = None, timeout: float | None = 300, anew: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `python -m vae_lightning` as a user would, forked or with an interpreter of its own: see `forked.run`."""
    env = forked.environment() if data is None else forked.environment(VAE_LIGHTNING_DATA=data)
    return forked.run([sys.executable, "-m", "vae_lightning", *arguments], cwd, env, timeout, anew)


def fit(run: Run) -> Run:
    """The same run, trained."""
    run.trainer.fit(run.lit, run.data, ckpt_path=run.resumed, weights_only=True)
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    """A copy of all weights of a run."""
    return {name: value.clone() for name, value in run.lit.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights agree bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
