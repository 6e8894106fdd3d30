"""Every mistake of a command line, found together and before anything is loaded or written."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from vae_lightning.check import problems
from vae_lightning.compose import compose, plugins
from vae_lightning.errors import ConfigError, first_line
from vae_lightning.override import parsed
from vae_lightning.paths import CONF

PLUGINS = "hydra_plugins.vae_lightning_plugins."
BROUGHT = ("joblib", "submitit_local", "submitit_slurm")  # by packages of others
REMOVABLE = ("callback", "logger", "experiment")
SEVERAL = (*REMOVABLE, "metric")  # groups of which several options may be chosen
INTERVAL = "there are endless values between; name some, as in key=1,2,4, or search: hydra/sweeper=optuna"
MAX_JOBS = 100_000
MAX_COMBINATIONS = 64  # of swept options that are checked beforehand; each job checks itself again


def check(
    overrides: Sequence[str], searchpath: Sequence[str] = (), multirun: bool = False, name: str = "config"
) -> list[str]:
    """What is wrong with `overrides`, a line each; an empty list if they can run.

    >>> check(["loss.bta=4"])
    ['loss.bta=4: no such key; did you mean loss.beta?']
    """
    lines: dict[str, None] = {}  # an ordered set
    read = []
    for text in overrides:
        try:
            read.append(parsed(text))
        except ConfigError as error:
            lines[str(error)] = None
    groups = options([CONF, *map(Path, searchpath)])
    chosen, values = [], []
    for override in read:
        override.config_loader = _Options(groups)  # type: ignore[assignment]
        if wrong := _wrong_sweep(override):
            lines.update(dict.fromkeys(wrong))
        elif override.key_or_group in ("hydra/launcher", "hydra/sweeper"):
            wrong = _no_such_plugin(override)
            lines.update(dict.fromkeys(wrong))
            chosen += [] if wrong else [override]
        elif override.is_hydra_override():
            chosen.append(override)
        elif "_target_" in (override.input_line or ""):
            lines[f"{override.input_line}: a _target_ comes from conf/, not from the command line"] = None
        elif override.is_sweep_override() and not multirun:
            lines[f"{override.input_line}: several values are a sweep: add -m, or quote the value to mean one"] = None
        elif override.is_delete() and override.key_or_group.partition(".")[0] not in REMOVABLE:
            lines[f"{override.input_line}: cannot be left out; set it to what you want"] = None
        elif override.key_or_group in groups:
            wrong = _wrong_options(override, groups[override.key_or_group])
            lines.update(dict.fromkeys(wrong))
            if not wrong:
                chosen.append(override)
        else:
            values.append(override)
    combinations = itertools.islice(itertools.product(*map(_spellings, chosen)), MAX_COMBINATIONS)
    for combination in combinations:
        try:
            config, choices = compose(combination, searchpath, name, hydra=True)
        except (HydraException, OmegaConfBaseException) as error:
            lines[first_line(error)] = None
            continue
        lines.update(dict.fromkeys(_wrong_plugins(config.hydra, choices)))
        lines.update(dict.fromkeys(_wrong_hydra(config.hydra, multirun)))
        with open_dict(config):
            del config["hydra"]
        if choices["hydra/sweeper"] != "optuna":
            lines.update({f"{o.input_line}: {INTERVAL}": None for o in values if o.is_interval_sweep()})
            lines.update(dict.fromkeys(_too_many([o for o in read if not _wrong_sweep(o)]) if multirun else ()))
        known = [o for o in values if _has(config, o.key_or_group)]
        lines.update({_unknown(o, config, groups): None for o in values if o not in known})
        lines.update(dict.fromkeys(_wrong_values(config, choices, known)))
    return [line.replace("\n", "\\n") for line in lines]


class _Options:
    """What `model=glob(*)` looks for."""

    def __init__(self, groups: dict[str, list[str]]) -> None:
        self.groups = groups

    def get_group_options(self, group: str, results_filter: Any = None) -> list[str]:
        return self.groups.get(group, [])


def _wrong_sweep(override: Override) -> list[str]:
    """A sweep that has no values, or has others in it."""
    if not override.is_discrete_sweep():
        return []
    try:
        first = list(itertools.islice(_spelled(override), MAX_COMBINATIONS))
    except (HydraException, ValueError) as error:  # of a step of 0
        return [f"{override.input_line}: {first_line(error)}"]
    if not first or any(isinstance(value, Sweep) for value in first):
        return [f"{override.input_line}: {'a sweep in a sweep' if first else 'stands for no value at all'}"]
    return []


def _too_many(overrides: Sequence[Override]) -> list[str]:
    """A sweep of more jobs than a list of them has room for."""
    swept = [o for o in overrides if o.is_discrete_sweep()]
    counts = [sum(1 for _ in itertools.islice(_spelled(o), MAX_JOBS + 1)) for o in swept]
    if math.prod(counts) <= MAX_JOBS:
        return []
    worst = swept[counts.index(max(counts))].input_line
    return [f"{worst}: more than {MAX_JOBS} jobs in all; name fewer values, or search: hydra/sweeper=optuna"]


def options(folders: Iterable[Path]) -> dict[str, list[str]]:
    """The options of each group in these folders."""
    found: dict[str, list[str]] = {}
    for path in sorted(p for folder in folders for p in folder.glob("*/*.yaml")):
        found.setdefault(path.parent.name, []).append(path.stem)
    return found


def _wrong_options(override: Override, options: list[str]) -> list[str]:
    group, wrong = override.key_or_group, []
    if override.is_delete():
        return []
    for option in _values(override):
        several = isinstance(option, list)
        if option is None or (several and group not in SEVERAL):
            what = "one option, not a list" if several else "no such option"
            hint = f"; leave {group} out" if group in REMOVABLE else ""
            wrong.append(f"{override.input_line}: {what}{hint}; {group} is one of {', '.join(options)}")
            continue
        for name in option if several else [option]:
            if str(name) not in options:
                hint = _did_you_mean(str(name), options) or _other_key(override, name)
                wrong.append(f"{group}={name}: no such option{hint}; {group} is one of {', '.join(options)}")
    return wrong


def _no_such_plugin(override: Override) -> list[str]:
    known, name = plugins(override.key_or_group), str(override.value())
    if name in known:
        return []
    hint = f': pip install "vae-lightning[cluster]" brings {name}' if name in BROUGHT else _did_you_mean(name, known)
    return [f"{override.input_line}: no such plugin is installed{hint}; there is {', '.join(known)}"]


def _other_key(override: Override, value: Any) -> str:
    """`beta=4`: the group `beta` chooses a schedule, the number is `loss.beta`."""
    keys = [k for k in _all_leaves() if k.rpartition(".")[2] == override.key_or_group]
    return f"; did you mean {keys[0]}={value}?" if keys else ""


@cache
def _all_leaves() -> list[str]:
    return _leaves(compose()[0])


def _wrong_values(config: DictConfig, choices: dict[str, Any], overrides: list[Override]) -> list[str]:
    """Each swept value is tried once, beside the first value of all the others."""
    lines: dict[str, None] = {}
    spellings = [list(_values(o)) for o in overrides]
    trials = [[s[0] for s in spellings]]
    for i, values in enumerate(spellings):
        trials += [[*trials[0][:i], value, *trials[0][i + 1 :]] for value in values[1:]]
    for trial in trials:
        job = config.copy()
        for override, value in zip(overrides, trial, strict=True):
            if isinstance(_node(job, override.key_or_group), DictConfig) and not isinstance(value, dict | None):
                lines[f"{override.input_line}: stands for several keys; set one of them, or choose an option"] = None
                continue
            try:
                if override.is_delete():
                    OmegaConf.set_struct(job, False)
                    parent, _, key = override.key_or_group.rpartition(".")
                    del (OmegaConf.select(job, parent) if parent else job)[key]
                else:
                    OmegaConf.update(job, override.key_or_group, value, force_add=True)
            except (OmegaConfBaseException, KeyError) as error:
                lines[f"{override.input_line}: {first_line(error)}"] = None
            except RecursionError:
                lines[f"{override.input_line}: too many brackets in each other"] = None
                job = config.copy()
        lines.update({f"{key}: {wrong}": None for key, wrong in problems(job, choices).items()})
    return list(lines)


def _wrong_plugins(hydra: DictConfig, choices: dict[str, Any]) -> list[str]:
    """Of the launcher and the sweeper, where they are ours."""
    ours = [part for part in ("launcher", "sweeper") if str(hydra[part]._target_).startswith(PLUGINS)]
    found = {part: problems(hydra[part], choices) for part in ours}
    return [f"hydra.{part}.{key}: {wrong}" for part in ours for key, wrong in found[part].items()]


def _wrong_hydra(hydra: DictConfig, multirun: bool) -> list[str]:
    """What Hydra itself would trip over."""
    key, lines = "sweep" if multirun else "run", []
    try:
        str(hydra[key].dir)
    except OmegaConfBaseException as error:
        lines.append(f"hydra.{key}.dir: {first_line(error)}")
    if not isinstance(hydra.verbose, bool | str | ListConfig):
        lines.append(
            f"hydra.verbose: must be true or false, or the name of a logger, or a list of them, not {hydra.verbose}"
        )
    return lines


def _node(config: DictConfig, key: str) -> Any:
    return OmegaConf.select(config, key, throw_on_missing=False) if _has(config, key) else None


def _spellings(override: Override) -> list[str]:
    if not override.is_sweep_override() or override.is_hydra_override():
        return [override.input_line or ""]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _values(override: Override) -> Iterable[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return [sweep.start, sweep.end]
    if isinstance(sweep, RangeSweep):
        return list(itertools.islice(sweep.range(), MAX_COMBINATIONS))
    return [OverridesParser.create().parse_override(f"x={text}").value() for text in override.sweep_string_iterator()]


def _spelled(override: Override) -> Iterator[Any]:
    """The values of a sweep; a range in its own order, which takes no memory however long it is."""
    sweep = override.value()
    return iter(sweep.range()) if isinstance(sweep, RangeSweep) else override.sweep_iterator()


def _has(config: DictConfig, key: str) -> bool:
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else config
    return isinstance(node, DictConfig) and last in node.keys()  # noqa: SIM118  # `in` leaves out what is missing yet


def _leaves(config: DictConfig, path: str = "") -> list[str]:
    found = []
    for key in map(str, config):
        name = f"{path}.{key}" if path else key
        node = config._get_node(key)
        found += _leaves(node, name) if isinstance(node, DictConfig) else [name]
    return [name for name in found if not name.endswith("_target_")]


def _unknown(override: Override, config: DictConfig, groups: dict[str, list[str]]) -> str:
    key = override.key_or_group
    parent, _, last = key.rpartition(".")
    group, _, option = parent.partition(".")
    leaves = _leaves(config)
    names = [leaf.rpartition(".")[2] for leaf in leaves]
    siblings = [leaf for leaf in leaves if leaf.rpartition(".")[0] == parent]
    similar = set(difflib.get_close_matches(last, names, n=1, cutoff=0.7))
    close = [leaf for leaf, name in zip(leaves, names, strict=True) if name == last]
    close = close or [leaf for leaf in siblings if leaf.rpartition(".")[2] in similar]
    close = close or difflib.get_close_matches(key, [*leaves, *groups], n=1, cutoff=0.7)
    close = close or [leaf for leaf, name in zip(leaves, names, strict=True) if name in similar]
    if option in groups.get(group, []):
        hint = f"; say {group}={option} first"
    elif close:
        hint = f"; did you mean {' or '.join(close)}?"
    elif siblings and parent:
        hint = f"; {parent} has {', '.join(leaf.rpartition('.')[2] for leaf in siblings)}"
    else:
        hint = "; `--help` lists all keys"
    return f"{override.input_line}: no such key{hint}"


def _did_you_mean(word: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def split(arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """Hydra's flags, and the overrides, of a command line."""
    known = get_args_parser().parse_args(list(arguments))
    return known, known.overrides
