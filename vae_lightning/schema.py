"""The words in which a constructor says what a configuration may give it.

    def __init__(self, n_train: int, beta: NonNegative = 1.0, scale: Literal["fixed", "learned"] = "fixed")

To Python and mypy these are floats, ints and strings; `vae_lightning.check` reads them before anything is imported.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; `open` leaves `low` itself out."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.open else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        below = f" and <= {self.high:.10g}" if self.high < math.inf else ""
        return f" {'>' if self.open else '>='} {self.low:g}{below}" if self.low > -math.inf else below


Positive = Annotated[float, Range(0, open=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what NumPy takes
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "tanh", "sigmoid"]
Norm = Literal["none", "batch", "layer", "group"]
Gated = Literal[Activation, "glu"]
Analytic = Literal["auto"] | bool
Output = Literal["linear", "sigmoid"]
Estimator = Literal["standard", "stl", "dreg"]
Binarize = Literal["dynamic", "static", "threshold", "none"]


def describe(annotation: Any) -> str:
    """The values that `annotation` allows, in words.

    >>> describe(Positive | None)
    'a number > 0, or null'
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(args[0]) + str(args[1])
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (Union, UnionType):
        return ", or ".join(describe(a) for a in args)
    if origin is tuple:
        return f"a list of {len(args)} items, each {describe(args[0])}"
    if origin is list:
        return f"a list of at least one item, each {describe(args[0])}"
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", NoneType: "null"}
    return names.get(annotation, "anything")


def allows(annotation: Any, value: Any) -> bool:
    """Whether `value` is one of the values of `annotation`; an annotation that is unknown here allows everything.

    >>> allows(Positive, float("nan")), allows(Count | None, None), allows(float, 3), allows(int, True)
    (False, True, True, False)
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allows(args[0], value) and value in args[1]
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in args)
    if origin in (Union, UnionType):
        return any(allows(a, value) for a in args)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(args) and all(map(allows, args, value))
    if origin is list:
        return isinstance(value, list) and len(value) > 0 and all(allows(args[0], v) for v in value)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool) and not is_large(value)
    if annotation in (bool, str, NoneType):
        return isinstance(value, annotation)
    return True


def is_large(value: Any) -> bool:
    """Whether this is a whole number of more than 64 bits, which torch cannot take.

    >>> is_large(2**63 - 1), is_large(2**63)
    (False, True)
    """
    return isinstance(value, int) and not -(2**63) <= value < 2**63
