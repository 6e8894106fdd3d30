"""How the speed table is measured, kept and printed.

A benchmark hands the samples of a row to `row`, or says by `missing` why there are none. What was measured lies in
`speed.json`, each row with its machine, so that rows measured elsewhere stay; `table` writes it as Markdown. With
BENCHMARK_QUICK=1 everything runs once on next to nothing: to see that it runs. Then nothing is kept.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.targets import GPU, ROWS
from vae_lightning.model.product import Product
from vae_lightning.model.product import faster as one_dnn

KEPT = Path(__file__).with_name("speed.json")
QUICK = "BENCHMARK_QUICK" in os.environ
now: dict[str, dict[str, Any]] = {}  # rows of this process


def row(key: str, samples: Sequence[float], note: str = "") -> bool:
    """Put the median and the quartiles of `samples`, in the unit of the row, into the table; says if the target is met.

    Args:
        key: of the row, in targets.ROWS.
        samples: ratios, seconds, ... one of each repetition; a single one has no spread.
        note: what a reader must know to judge the number.
    """
    claim = _claims()[key]
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else [samples[0]] * 3
    figure = {"low": low, "median": middle, "high": high, "n": len(samples), "note": note}
    now[key] = figure | {"machine": machine(claim.device)}
    if not QUICK:
        known = {k: v for k, v in kept().items() if k in _claims()}
        KEPT.write_text(json.dumps(known | {key: now[key]}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"\n{claim.work}: {_shown(key, now[key])} (target {claim.target}) {note}")
    return claim.met(middle)


def missing(key: str, why: str) -> None:
    """Say why a row has no figure; one that was measured before stays."""
    now.setdefault(key, {"why": why, "machine": machine(_claims()[key].device)})


def kept() -> dict[str, dict[str, Any]]:
    """The rows that were measured, by key."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}


def table(found: dict[str, dict[str, Any]]) -> str:
    """The whole table in Markdown: every row, measured or not, and the machines.

    >>> print(table({"mlp-32": {"low": 1.0, "median": 1.02, "high": 1.1, "n": 8, "note": "", "machine": "a card"}}))
    | | target | median (quartiles) | verdict |
    |---|---|---|---|
    | default MLP, batch 32: ... | ≤ 1.10 × | 1.02 × (1.00–1.10) | met |
    | default MLP, batch 128: ... | ≤ 1.05 × |  | not measured |
    ...
    Measured on a card.
    """
    machines = sorted({figure["machine"] for figure in found.values() if "median" in figure})
    marks = dict(zip(machines, "¹²³⁴⁵⁶⁷⁸⁹", strict=False)) if len(machines) > 1 else {}
    lines = ["| | target | median (quartiles) | verdict |", "|---|---|---|---|"]
    notes = []
    for claim in ROWS:
        figure = found.get(claim.key, {"why": "no GPU" if claim.device == GPU else ""})
        if "median" in figure:
            verdict = ("met" if claim.met(figure["median"]) else "missed") + marks.get(figure["machine"], "")
            notes += [f"{claim.work}: {figure['note']}."] if figure["note"] else []
        else:
            verdict = "not measured" + (f": {figure['why']}" if figure["why"] else "")
        lines.append(" | ".join(["", claim.work, claim.target, _shown(claim.key, figure), verdict, ""]).strip())
    where = [f"Measured on {marks.get(name, '')}{' ' if marks else ''}{name}." for name in machines]
    return "\n".join([*lines, "", *(f"* {note}" for note in notes), *([""] if notes else []), *where])


def machine(device: str = "cpu") -> str:
    """What a figure was measured on.

    >>> "torch" in machine()
    True
    """
    card = f"{torch.cuda.get_device_name()} and " if device == GPU and torch.cuda.is_available() else ""
    cores = len(os.sched_getaffinity(0))
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning"))
    return f"{card}{cores} cores of {_processor()}, Python {platform.python_version()}, {packages}"


class Timed(NamedTuple):
    """What alternation has found: a sample of each repetition."""

    ratios: list[float]  # a / b
    a: list[float]
    b: list[float]


def alternated(a: Callable[[], float], b: Callable[[], float], times: int) -> Timed:
    """Seconds of `a` over those of `b`, each `a` between two `b`, so that a machine that changes meanwhile cancels out.

    >>> alternated(lambda: 3.0, lambda: 2.0, times=2).ratios
    [1.5, 1.5]

    Args:
        a, b: do the work and return how long it took; called once before, to warm up.
        times: how many samples; one if everything is to be quick.
    """
    a()
    b()
    mine, theirs = [], [b()]
    for _ in range(1 if QUICK else times):
        mine.append(a())
        theirs.append(b())
    ratios = [2 * m / (before + after) for m, before, after in zip(mine, theirs, theirs[1:], strict=False)]
    return Timed(ratios, mine, theirs)


def clock() -> float:
    """Seconds, when all that was asked of a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    start = clock()
    work()
    return clock() - start


def products() -> list[Callable[[Tensor, Tensor], Tensor]]:
    """The ways in which this processor can multiply x (N, in) with weights (out, in): the peak is that of the best."""
    return [F.linear, *([lambda x, weight: Product.apply(x, weight, None)] if one_dnn() else [])]


def _claims() -> dict[str, Any]:
    return {claim.key: claim for claim in ROWS}


def _shown(key: str, figure: dict[str, Any]) -> str:
    if "median" not in figure:
        return ""
    amounts = [_claims()[key].amount(figure[name]) for name in ("median", "low", "high")]
    low, high = (amount.rpartition(" ")[0] for amount in amounts[1:])
    return f"{amounts[0]} ({low}–{high})" if figure["n"] > 1 else amounts[0]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
