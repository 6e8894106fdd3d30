"""The configuration without `hydra.main`: to check it first, to load a checkpoint, in a test or a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from vae_lightning.override import quoted
from vae_lightning.paths import CONF


def compose(
    overrides: Iterable[str] = (), searchpath: Iterable[str] = (), name: str = "config", hydra: bool = False
) -> tuple[DictConfig, dict[str, Any]]:
    """The configuration that `python -m vae_lightning <overrides>` would run, and the option chosen in each group.

    Args:
        overrides: as on the command line.
        searchpath: folders with more options.
        name: of another command's configuration, such as `evaluate`.
        hydra: leave Hydra's own part in it.

    >>> config, choices = compose(["model=conv", "loss.beta=4"])
    >>> choices["model"], config.loss.beta
    ('conv', 4)
    """
    where = ",".join(quoted(f"file://{path}") for path in searchpath)
    extra = [f"hydra.searchpath=[{where}]"] if where else []
    with _hydra():
        config = hydra_compose(name, [*overrides, *extra], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    if not hydra:
        with open_dict(config):
            del config["hydra"]
    return config, choices


def plugins(group: str) -> list[str]:
    """The options of `hydra/launcher` or `hydra/sweeper` that are installed."""
    with _hydra() as loader:
        return sorted(loader.get_group_options(group))


@contextmanager
def _hydra() -> Iterator[ConfigLoader]:
    outer = deepcopy(GlobalHydra.instance().hydra)  # this may run inside of somebody else's hydra.main
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().clear()
        if outer is not None:
            GlobalHydra.instance().initialize(outer)
