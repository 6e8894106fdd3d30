"""What a configuration may say. The constructor is the schema, and it is read, not imported.

A node of the configuration names its `_target_`; the annotations of that target's parameters say which values are
possible, and a module-level `NEEDS` says which values elsewhere it cannot live without:

    NEEDS = {"data.binarize": (["none"], "grey pixels: say data.binarize=none")}

Both are taken from the source text, so that a typing error is found without waiting for torch.
"""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_lightning.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; `open` leaves `low` itself out."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.open else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        below = f" and <= {self.high:g}" if self.high < math.inf else ""
        return f" {'>' if self.open else '>='} {self.low:g}{below}" if self.low > -math.inf else below


Positive = Annotated[float, Range(0, open=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "tanh", "sigmoid"]
Norm = Literal["none", "batch", "layer", "group"]
Binarize = Literal["dynamic", "static", "threshold", "none"]

_NAMES = {name: value for name, value in globals().items() if not name.startswith("_")}


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
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (bool, str, NoneType):
        return isinstance(value, annotation)
    return True


@dataclass(frozen=True)
class Target:
    """A callable as its source text shows it."""

    parameters: Mapping[str, Any]  # name -> annotation, None where it means nothing here
    facts: frozenset[str]  # parameters without a default: given by Python, not by the configuration
    needs: Mapping[str, tuple[list[Any], str]] = field(default_factory=dict)


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def read(target: str) -> Target:
    """The signature and the needs of `package.module.name`.

    Raises:
        ConfigError: there is no such module, or no such function or class in it.
    """
    module, _, name = target.rpartition(".")
    try:
        spec = importlib.util.find_spec(module) if module else None
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"_target_ {target}: there is no module {module!r}")
    tree = _parse(Path(spec.origin))
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name]
    if not found:
        raise ConfigError(f"_target_ {target}: there is no {name!r} in {spec.origin}")
    inner = found[-1].body if isinstance(found[-1], ast.ClassDef) else found[-1:]
    node = next((n for n in inner if isinstance(n, ast.FunctionDef) and n.name in (name, "__init__")), None)
    if node is None:
        return Target({}, frozenset(), _needs(tree))
    arguments = [a for a in [*node.args.posonlyargs, *node.args.args] if a.arg != "self"]
    required = arguments[: len(arguments) - len(node.args.defaults)] + [
        a for a, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default is None
    ]
    parameters = {a.arg: _annotation(a.annotation) for a in [*arguments, *node.args.kwonlyargs]}
    return Target(parameters, frozenset(a.arg for a in required), _needs(tree))


def _annotation(node: ast.expr | None) -> Any:
    try:
        return eval(ast.unparse(node), dict(_NAMES)) if node is not None else None
    except (NameError, TypeError, AttributeError):
        return None  # a Tensor, a module: nothing that a configuration could say


def _needs(tree: ast.Module) -> Mapping[str, tuple[list[Any], str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "NEEDS" for t in node.targets):
            return ast.literal_eval(node.value)
    return {}


def nodes(config: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every part of `config` that names a `_target_`, with the key that leads to it."""
    if isinstance(config, DictConfig):
        if "_target_" in config:
            yield path, config
        for key in map(str, config):
            if not OmegaConf.is_interpolation(config, key):
                yield from nodes(config[key], f"{path}.{key}" if path else key)
    elif isinstance(config, ListConfig):
        for i, item in enumerate(config):
            yield from nodes(item, f"{path}[{i}]")


ROOT: dict[str, Any] = {
    "seed": NonNegativeInt,
    "condition": Literal["label"] | None,
    "ckpt": str | None,
    "debug": bool,
}


def problems(config: DictConfig, choices: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a composed configuration: key -> what it must be."""
    found = {key: wrong for key, annotation in ROOT.items() if (wrong := _wrong(config, key, annotation))}
    for path, node in nodes(config):
        try:
            target = read(node["_target_"])
        except ConfigError as error:
            found[f"{path}._target_"] = str(error)
            continue
        for key in map(str, node):
            if key == "_target_" or isinstance(node._get_node(key), DictConfig):
                continue  # a node of its own
            if key not in target.parameters:
                known = ", ".join(sorted(set(target.parameters) - target.facts))
                found[f"{path}.{key}"] = f"no such key: {node['_target_']} has {known}"
            elif wrong := _wrong(node, key, target.parameters[key]):
                found[f"{path}.{key}"] = wrong
    for path, node in nodes(config):
        for key, (allowed, advice) in _target_needs(node).items():
            value = choices[key] if key in choices else OmegaConf.select(config, key)
            if value not in allowed and key not in found:
                found[path] = f"{choices.get(path)} does not go with {key}={value}: {advice}"
    return found


def _target_needs(node: DictConfig) -> Mapping[str, tuple[list[Any], str]]:
    try:
        return read(node["_target_"]).needs
    except ConfigError:
        return {}  # told already


def _wrong(node: DictConfig, key: Any, annotation: Any) -> str | None:
    try:
        value = plain(node[key])
    except OmegaConfBaseException as error:
        return str(error).splitlines()[0]
    if OmegaConf.is_interpolation(node, key):
        return None  # what it stands for is checked where it is written
    return None if allows(annotation, value) else f"must be {describe(annotation)}, not {_say(value)}"


def _say(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))


def plain(value: Any) -> Any:
    """Dictionaries, lists and numbers instead of OmegaConf's containers, all interpolations resolved."""
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
