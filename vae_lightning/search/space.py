"""Search spaces in Hydra's words: `loss.beta=interval(0.5,4)` becomes a distribution of Optuna's, and a value text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from vae_lightning.errors import ConfigError

Space = dict[str, BaseDistribution]


def space(overrides: Sequence[Override]) -> Space:
    """The distribution of each key that is swept. Options keep the text in which they are given to a job.

    Raises:
        ConfigError: nothing is swept, or a sweep means nothing to a search.

    >>> from hydra.core.override_parser.overrides_parser import OverridesParser
    >>> parse = OverridesParser.create().parse_overrides
    >>> space(parse(["loss.beta=tag(log, interval(0.1, 10))", "model=mlp,conv", "seed=3"]))
    {'loss.beta': FloatDistribution(high=10.0, log=True, low=0.1, step=None),
     'model': CategoricalDistribution(choices=('mlp', 'conv'))}
    """
    found = {o.key_or_group: _distribution(o) for o in overrides if o.is_sweep_override()}
    if not found:
        raise ConfigError("hydra/sweeper=optuna: nothing is searched; say a space such as 'loss.beta=interval(0.5,4)'")
    return found


def spelled(overrides: Sequence[Override], params: Mapping[str, Any], known: Space) -> list[str]:
    """The overrides of one job: what is fixed as it was given, what is searched with its value of `params`.

    >>> from hydra.core.override_parser.overrides_parser import OverridesParser
    >>> asked = OverridesParser.create().parse_overrides(["model.hidden=[8],[8,16]", "seed=3"])
    >>> spelled(asked, {"model.hidden": "[8,16]"}, space(asked))
    ['model.hidden=[8,16]', 'seed=3']
    """
    return [
        f"{o.get_key_element()}={_text(params[o.key_or_group], known[o.key_or_group])}"
        if o.key_or_group in known
        else o.input_line or ""
        for o in overrides
    ]


def grid(known: Space) -> Iterator[dict[str, Any]]:
    """Every combination, the last key fastest.

    Raises:
        ConfigError: an interval has no end of values.
    """
    return (dict(zip(known, values, strict=True)) for values in itertools.product(*map(_values, known, known.values())))


def holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution has this value.

    >>> holds(IntDistribution(1, 3), 2), holds(IntDistribution(1, 3), "2"), holds(CategoricalDistribution(("a",)), "b")
    (True, False, False)
    """
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and distribution._contains(distribution.to_internal_repr(value))


def _distribution(override: Override) -> BaseDistribution:
    sweep, said = override.value(), override.input_line
    tags = set(getattr(sweep, "tags", ()))
    if getattr(sweep, "shuffle", False):
        raise ConfigError(f"{said}: a search has an order of its own; leave shuffle out")
    if tags - {"log"} or ("log" in tags and not isinstance(sweep, IntervalSweep)):
        raise ConfigError(f"{said}: the only tag is log, and it is for intervals: tag(log, interval(0.1, 10))")
    if isinstance(sweep, IntervalSweep):
        return _interval(sweep, bool(tags), said)
    if isinstance(sweep, RangeSweep):
        return _range(sweep, said)
    return CategoricalDistribution(tuple(dict.fromkeys(override.sweep_string_iterator())))


def _interval(sweep: IntervalSweep, log: bool, said: str | None) -> BaseDistribution:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    if not low < high:
        raise ConfigError(f"{said}: an interval goes from a number to a greater one")
    if log and low <= 0:
        raise ConfigError(f"{said}: a logarithmic interval begins above 0")
    if type(low) is type(high) is int:
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _range(sweep: RangeSweep, said: str | None) -> BaseDistribution:
    values = sorted(sweep.range())
    if not values:
        raise ConfigError(f"{said}: there is no value in it")
    kind: Any = IntDistribution if all(type(v) is int for v in values) else FloatDistribution
    return kind(values[0], values[-1], step=abs(sweep.step))


def _values(key: str, distribution: Any) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is None:
        raise ConfigError(f"{key}: a grid has no intervals; name its values, such as {key}={low},{high}")
    return [low + i * step for i in range(round((high - low) / step) + 1)]


def _text(value: Any, distribution: BaseDistribution) -> str:
    """A number of a range without the noise of adding up steps."""
    stepped = isinstance(distribution, FloatDistribution) and distribution.step is not None
    return f"{value:.12g}" if stepped else str(value)
