"""Who proposes the next trial, and who decides that a trial is not worth going on."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

from optuna import pruners, samplers
from optuna.exceptions import ExperimentalWarning

from vae_lightning.errors import ConfigError, UserError


def sampler(name: str, seed: int | None, startup_trials: int, objectives: int) -> samplers.BaseSampler:
    """A sampler of Optuna's. `grid` has an order of its own: here it is one for what remains.

    Args:
        name: tpe (Bergstra et al. (2011); with one objective over all parameters jointly), cmaes (Hansen and Ostermeier
            (2001)), random or grid.
        seed: None for another every time.
        startup_trials: drawn at random before anything is learnt from.
        objectives: how many.

    Raises:
        ConfigError: `cmaes` has one objective.
        UserError: a package is missing.
    """
    if name == "cmaes":
        if objectives > 1:
            raise ConfigError("hydra.sweeper.sampler=cmaes: it has one objective; say tpe, random or grid")
        if importlib.util.find_spec("cmaes") is None:
            raise UserError('hydra.sweeper.sampler=cmaes: pip install "vae-lightning[search]"')
        return samplers.CmaEsSampler(n_startup_trials=startup_trials, seed=seed, warn_independent_sampling=False)
    if name == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return samplers.TPESampler(
                n_startup_trials=startup_trials, seed=seed, multivariate=objectives == 1, constant_liar=True
            )
    return samplers.RandomSampler(seed)


def warmup(name: str, max_epochs: int) -> int:
    """Epochs that every trial gets, where nothing is said: who is ahead early on is who learns fastest, not best.

    >>> warmup("median", 27), warmup("hyperband", 27), warmup("median", 1)
    (9, 3, 1)
    """
    return max(1, max_epochs // (9 if name in ("hyperband", "halving") else 3))


def pruner(name: str, startup_trials: int, warmup_epochs: int, max_epochs: int, keep: float) -> pruners.BasePruner:
    """A pruner of Optuna's; its steps are epochs.

    Args:
        name: none, median, percentile, hyperband (Li et al. (2018)) or halving (Li et al. (2020)).
        startup_trials: that end before median or percentile compare with them.
        warmup_epochs: that every trial gets.
        max_epochs: of a whole trial.
        keep: the part of the trials that percentile lets go on.
    """
    if name == "none":
        return pruners.NopPruner()
    made: dict[str, Any] = {
        "median": lambda: pruners.MedianPruner(startup_trials, warmup_epochs),
        "percentile": lambda: pruners.PercentilePruner(100 * keep, startup_trials, warmup_epochs),
        "hyperband": lambda: pruners.HyperbandPruner(warmup_epochs, max(max_epochs, warmup_epochs), reduction_factor=3),
        "halving": lambda: pruners.SuccessiveHalvingPruner(warmup_epochs, reduction_factor=3),
    }
    return made[name]()
