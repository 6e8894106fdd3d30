"""What a sweep is about: `objective: test/elbo`, and whether more of it is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vae_lightning.errors import ConfigError, UserError

HIGHER_IS_BETTER = ("elbo", "accuracy")  # all else is a cost: loss, distortion, rate, bits_per_dim …
STAGES = ("val", "test")


def names(objective: str | Sequence[str]) -> list[str]:
    """One name, or several, as a list.

    >>> names("test/elbo"), names(["test/distortion", "test/rate"])
    (['test/elbo'], ['test/distortion', 'test/rate'])
    """
    return [objective] if isinstance(objective, str) else list(objective)


def wrong(objective: str | Sequence[str]) -> str | None:
    """What is wrong with the form of it, if something is.

    >>> wrong("elbo")
    'elbo is not of the form val/… or test/…: say test/elbo'
    """
    for name in names(objective):
        stage, _, what = name.partition("/")
        if stage not in STAGES or not what:
            known = what or (stage if stage not in STAGES else "") or "loss"
            return f"{name or 'an empty text'} is not of the form val/… or test/…: say test/{known}"
    return None


def direction(name: str) -> str:
    """`maximize` or `minimize`.

    >>> direction("test/elbo"), direction("val/rate")
    ('maximize', 'minimize')
    """
    return "maximize" if name.partition("/")[2] in HIGHER_IS_BETTER else "minimize"


def check(objective: str | Sequence[str], measured: Iterable[str]) -> None:
    """Whether a run that measures such things has what `objective` names.

    Raises:
        ConfigError: it has not.
    """
    known = list(measured)
    for name in names(objective):
        if name.partition("/")[2] not in known:
            raise ConfigError(f"objective={name}: this run measures {', '.join(known)}, each as val/… and test/…")


def values(results: Mapping[str, Any], objective: str | Sequence[str]) -> list[float]:
    """The numbers that `objective` names, from the results of a run.

    Raises:
        UserError: a number is missing or not finite.

    >>> values({"test": {"elbo": -100.0}, "val": {}}, "test/elbo")
    [-100.0]
    """
    found = []
    for name in names(objective):
        stage, _, what = name.partition("/")
        value = float(results.get(stage, {}).get(what, math.nan))
        if not math.isfinite(value):
            raise UserError(f"objective={name}: the run has ended without it, or with {value}")
        found.append(value)
    return found
