"""What a metric finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from vae_lightning.check import read
from vae_lightning.checkpoint import GROUPS
from vae_lightning.errors import UserError
from vae_lightning.needs import Needs
from vae_lightning.trained import Trained


@dataclass(frozen=True)
class Value:
    """A number with its unit.

    >>> Value(98.5, "nats per image", 0.3).plain()
    {'value': 98.5, 'unit': 'nats per image', 'standard_error': 0.3}
    """

    value: float
    unit: str = ""
    standard_error: float | None = None  # of the value, from all draws and images that it is a mean over
    note: str = ""
    better: str = ""  # lower, higher

    def plain(self) -> dict[str, Any]:
        """What is not empty, for JSON."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}


Names = tuple[str, ...]


class Metric(Protocol):
    """A trained model to named numbers."""

    lower_is_better: Names  # of these numbers
    higher_is_better: Names

    def __call__(self, trained: Trained) -> dict[str, Value]:
        """The findings, in the order in which they are to be shown.

        Raises:
            NotApplicable: this metric has no meaning for this model or its data.
        """


class NotApplicable(UserError):
    """A metric has no meaning for a model; the message says why."""


def refuse(trained: Trained, needs: Needs) -> None:
    """Hold the options that a model is made of against `needs`, as `NEEDS` of an option are.

    Raises:
        NotApplicable: one of them is missing; in the words of `needs`.
    """
    for key, (allowed, _) in needs.items():
        group, _, trait = key.partition(":")
        traits = read(trained.config[group]["_target_"]).traits if group in GROUPS else {}
        if traits.get(trait, allowed[0]) not in allowed:
            raise NotApplicable(f"{group}={trained.choices[group]}, whose {trait} is {traits[trait]}")
