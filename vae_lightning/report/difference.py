"""What runs have in common, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vae_lightning.report.run import Run

ASIDE = ("ckpt", "data.root", "data.source.mirror", "logger", "trainer.enable_progress_bar", "trainer.profiler")
ABSENT = "\N{EN DASH}"  # of a key that a configuration does not have


def said(value: Any) -> str:
    """A value as a command line has it; 1.0 and 1 are the same number.

    >>> said(None), said(True), said([400, 400]), said(1.0), said(0.5), said("conv")
    ('null', 'true', '[400,400]', '1', '0.5', 'conv')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{','.join(map(said, value))}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def items(run: Run) -> dict[str, str]:
    """Everything that was chosen: the options of the groups, then all keys with their values."""
    chosen = {group: option for group, option in run.choices.items() if option not in (None, [], "[]")}
    return {key: said(value) for key, value in {**run.config, **chosen}.items()}


def settings(run: Run) -> dict[str, str]:
    """What decides over the result: all but the seed, and but where files lie and what is shown on the way."""
    return {
        key: value
        for key, value in items(run).items()
        if key != "seed" and not any(key == aside or key.startswith(f"{aside}.") for aside in ASIDE)
    }


def split(every: Sequence[dict[str, str]]) -> tuple[dict[str, str], list[str]]:
    """What all have in common, and the keys that differ.

    >>> split([{"seed": "1", "lr": "0.1"}, {"seed": "2", "lr": "0.1"}, {"lr": "0.1"}])
    ({'lr': '0.1'}, ['seed'])
    """
    keys = dict.fromkeys(key for one in every for key in one)
    shared = {k: every[0][k] for k in keys if all(k in one and one[k] == every[0].get(k) for one in every)}
    return shared, [key for key in keys if key not in shared]


def telling(every: Sequence[dict[str, str]], groups: Iterable[str]) -> list[str]:
    """The keys that it takes to tell configurations apart; a key that follows from the option of its group is left out.

    >>> mlp, conv = {"model": "mlp", "model.hidden": "[400]"}, {"model": "conv", "model.channels": "[32]"}
    >>> telling([mlp, conv, {**mlp, "seed": "2"}], ["model"])
    ['model', 'seed']
    """
    different = split(every)[1]
    chosen = [key for key in different if key in set(groups)]

    def follows(key: str) -> bool:
        for option in {"experiment", key.partition(".")[0]} & set(chosen) - {key}:
            if len({(one.get(option), one.get(key)) for one in every}) == len({one.get(option) for one in every}):
                return True
        return False

    found = [key for key in different if not follows(key)]
    return sorted(found, key=lambda key: (key not in chosen, different.index(key)))


def label(one: dict[str, str], keys: Iterable[str]) -> str:
    """`model=conv, loss.beta=4`; without keys that this configuration does not have."""
    return ", ".join(f"{key}={one[key]}" for key in keys if key in one)
