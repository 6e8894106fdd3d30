"""From a configuration to a model and a loss: facts are injected by name, as pytest does with fixtures."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

from hydra.utils import get_object
from omegaconf import DictConfig
from torch import nn

from vae_lightning.anneal import Anneal
from vae_lightning.check import nodes, plain
from vae_lightning.errors import ConfigError
from vae_lightning.model.vae import VAE

NO_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")  # how torch says it


def make(node: Mapping[str, Any], **facts: Any) -> Any:
    """Call the `_target_` of `node` with what the node says and whichever of `facts` its signature names.

    >>> make({"_target_": "vae_lightning.posterior.normal.Normal", "scale": "exp"}, latent_shape=(2,), n_train=60_000)
    Normal(...)

    Raises:
        ConfigError: the target refuses its arguments; the message is the target's own.
    """
    settings = plain(node) if isinstance(node, DictConfig) else dict(node)
    target = get_object(settings.pop("_target_"))
    settings.pop("anneal", None)  # what changes one of these values with time is the training module's
    given = {k: make(v, **facts) if isinstance(v, dict) and "_target_" in v else v for k, v in settings.items()}
    wanted = inspect.signature(target).parameters
    try:
        return target(**given, **{k: v for k, v in facts.items() if k in wanted and k not in given})
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        what = f"{target.__module__}.{target.__qualname__}"
        raise ConfigError(f"{what} with {', '.join(_sizes(settings))}: more memory than there is") from error


def _sizes(settings: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every whole number in `settings`, and every list, with the key that leads to it."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _sizes(value, f"{path}{key}.")
        elif isinstance(value, int | list) and not isinstance(value, bool):
            yield f"{path}{key}={value}"


def build_model(config: DictConfig, **facts: Any) -> VAE:
    """The model that `config` describes, for data of these `facts`: shape, n_context, ..."""
    likelihood = make(config.likelihood, **facts)
    posterior = partial(make, config.posterior, **facts)
    prior = partial(make, config.prior, **facts)
    return cast(VAE, make(config.model, likelihood=likelihood, posterior=posterior, prior=prior, **facts))


def build_anneals(config: DictConfig) -> list[Anneal]:
    """Every schedule that `config` names: `beta`, and the `anneal` of any other part."""
    return [make(node) for path, node in nodes(config) if path == "beta" or path.endswith(".anneal")]


def build_loss(config: DictConfig, **facts: Any) -> nn.Module:
    """The loss that `config` describes."""
    return cast(nn.Module, make(config.loss, **facts))
