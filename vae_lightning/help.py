"""What `--help` says: all groups with their options, and all values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from vae_lightning.command_line import options
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError, first_line
from vae_lightning.paths import CONF


def text(overrides: Sequence[str], searchpath: Sequence[str], name: str, resolve: bool = False) -> str:
    """`hydra.help.template` of `conf/<name>.yaml`, filled in as Hydra does it, which takes twice as long.

    Args:
        overrides: of the values that are shown.
        searchpath: folders with more options.
        name: of the configuration.
        resolve: show what interpolations stand for.

    Raises:
        ConfigError: it cannot be composed.

    >>> "loss: aae, ae" in text([], [], "config")
    True
    """
    try:
        config, _ = compose(overrides, searchpath, name, hydra=True)
    except (HydraException, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(first_line(error)) from error
    template = Template(config.hydra.help.template)
    with open_dict(config):
        del config["hydra"]
    known = options([CONF, *map(Path, searchpath)])
    groups = "".join(f"{group}: {', '.join(sorted(set(known[group])))}\n" for group in sorted(known))
    return template.substitute(APP_CONFIG_GROUPS=groups, CONFIG=OmegaConf.to_yaml(config, resolve=resolve))
