"""Which runs can be compared: the same images, binarised alike, under the same likelihood."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vae_lightning.check import traits
from vae_lightning.report.difference import label, settings, telling
from vae_lightning.report.run import Run

TRAINING_ONLY = ("batch_size", "eval_batch_size", "val_size", "split_seed", "labelled")  # the test images stay the same


@dataclass(frozen=True)
class Setting:
    """Runs that one ranking may hold."""

    name: str
    density: bool | None  # False: an energy, whose numbers are no likelihoods; None: not known
    runs: list[Run]


def comparable(runs: Sequence[Run]) -> list[Setting]:
    """Runs by what they measure on.

    Two densities over the same images compare whatever their options are; an energy is scaled by its options, which
    must then agree.
    """
    kinds: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        kinds.setdefault(tuple(sorted(_measure(run).items())), []).append(run)
    measures = [dict(kind) for kind in kinds]
    keys = [key for key in telling(measures, ("data", "likelihood")) if key != "data.binarize"]
    found = []
    for measure, members in zip(measures, kinds.values(), strict=True):
        more = label(measure, [key for key in keys if "." in key])
        parts = [measure.get("data"), _binarised(measure), _of("likelihood", measure), more]
        name = ", ".join(part for part in parts if part) or "configuration not known"
        found.append(Setting(name, _density(members[0]), members))
    return found


def _measure(run: Run) -> dict[str, str]:
    aside = {f"data.{key}" for key in TRAINING_ONLY}
    chosen = settings(run)
    keys = ["data", *(key for key in chosen if key.startswith("data.") and key not in aside), "likelihood"]
    options = [key for key in chosen if key.startswith("likelihood.")]
    keys += ["likelihood._target_"] if _density(run) else options
    return {key: chosen[key] for key in keys if key in chosen}


def _density(run: Run) -> bool | None:
    try:
        density = traits(str(run.config.get("likelihood._target_"))).get("density")
    except (ValueError, TypeError, SyntaxError, OSError, ImportError, RecursionError):  # no module, or none in Python
        return None
    return density if isinstance(density, bool) else None


def _binarised(measure: dict[str, str]) -> str:
    how = measure.get("data.binarize")
    return {None: "", "none": "not binarised", "threshold": "binarised at 1/2"}.get(how, f"{how} binarisation")


def _of(group: str, measure: dict[str, str]) -> str:
    return f"{measure[group]} {group}" if group in measure else ""


def names(groups: Iterable[str]) -> str:
    """A list in a sentence.

    >>> names(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = groups
    return f"{', '.join(first)} and {last}" if first else last
