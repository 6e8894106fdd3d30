"""A composed configuration against the constructors that it names. They are read, not imported.

A node of the configuration names its `_target_`; the annotations of that target's parameters say which values are
possible, and a module-level `NEEDS` says which values elsewhere it cannot live without:

    NEEDS = {"data.binarize": (["none"], "grey pixels: say data.binarize=none")}

A key of `NEEDS` is a configuration key, a group (its value is the option), or `group:trait`, where the option's own
file says `TRAITS = {trait: value}`; what it does not say is not held against it. All this is taken from the source
text, so that a typing error is found without waiting for torch.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

import vae_lightning.needs
from vae_lightning import objective, schema
from vae_lightning.errors import ConfigError, first_line
from vae_lightning.schema import Seed, allows, describe, is_large


@dataclass(frozen=True)
class Target:
    """A callable as its source text shows it."""

    parameters: Mapping[str, Any]  # name -> annotation, None where it means nothing here
    facts: frozenset[str]  # parameters without a default: given by Python, not by the configuration
    needs: Mapping[str, tuple[list[Any], str]]
    traits: Mapping[str, Any]


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
        inherited = _base(tree, found[-1])
        empty = read(inherited) if inherited else Target({}, frozenset(), {}, {})
        return replace(empty, needs=_constant(tree, "NEEDS"), traits=_constant(tree, "TRAITS"))
    arguments = [a for a in [*node.args.posonlyargs, *node.args.args] if a.arg != "self"]
    required = arguments[: len(arguments) - len(node.args.defaults)] + [
        a for a, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default is None
    ]
    parameters = {a.arg: _annotation(a.annotation) for a in [*arguments, *node.args.kwonlyargs]}
    facts = frozenset(a.arg for a in required)
    return Target(parameters, facts, _constant(tree, "NEEDS"), _constant(tree, "TRAITS"))


def traits(target: str) -> Mapping[str, Any]:
    """What the source of `package.module.name` says of itself; empty where there is none.

    The name may come from a stranger: nothing is imported to find it, and nothing of it is worked out.

    >>> traits("vae_lightning.likelihood.bernoulli.Bernoulli")["density"], traits("antigravity.nowhere.Name")
    (True, {})
    """
    path, spec = None, None
    names = target.split(".")[:-1]
    for i in range(len(names)):
        whole = ".".join(names[: i + 1])
        found = (finder.find_spec(whole, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next(filter(None, found), None)
        if spec is None:
            return {}
        path = spec.submodule_search_locations or []
    if spec is None or not str(spec.origin).endswith(".py"):
        return {}
    value = _assigned(_parse(Path(str(spec.origin))), "TRAITS")
    return {} if value is None else dict(ast.literal_eval(value))


def _base(tree: ast.Module, node: ast.stmt) -> str | None:
    """Where a class has its constructor from, if that is a class of this package that the module imports by name."""
    names = [ast.unparse(base) for base in getattr(node, "bases", ())]
    imports = [n for n in tree.body if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("vae_lightning.")]
    return next((f"{n.module}.{a.name}" for n in imports for a in n.names if a.name in names), None)


def _annotation(node: ast.expr | None) -> Any:
    try:
        return eval(ast.unparse(node), dict(vars(schema))) if node is not None else None
    except (NameError, TypeError, AttributeError):
        return None  # a Tensor, a module: nothing that a configuration could say


def _constant(tree: ast.Module, name: str) -> Mapping[str, Any]:
    value = _assigned(tree, name)
    return {} if value is None else eval(ast.unparse(value), {**vars(vae_lightning.needs), "__builtins__": {}})


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    """What a module's source gives to this name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value
    return None


def nodes(config: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every part of `config` that names a `_target_`, with the key that leads to it."""
    if isinstance(config, DictConfig):
        if "_target_" in config:
            yield path, config
        for key in map(str, config):
            if not OmegaConf.is_interpolation(config, key) and not OmegaConf.is_missing(config, key):
                yield from nodes(config[key], f"{path}.{key}" if path else key)
    elif isinstance(config, ListConfig):
        for i, item in enumerate(config):
            yield from nodes(item, f"{path}[{i}]")


ROOT: dict[str, Any] = {
    "seed": Seed,
    "condition": Literal["label"] | None,
    "ckpt": str | None,
    "objective": str | list[str],
    "pictures": bool,
    "debug": bool,
}
RESUME: dict[str, Any] = {"override": list[str] | None}


def problems(config: DictConfig, choices: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a composed configuration: key -> what it must be."""
    root = {} if "_target_" in config else ROOT
    found = {key: wrong for key, annotation in root.items() if (wrong := _wrong(config, key, annotation))}
    for key, annotation in RESUME.items() if root and isinstance(config.get("resume"), DictConfig) else ():
        if wrong := _wrong(config.resume, key, annotation):
            found[f"resume.{key}"] = wrong
    if root and "objective" not in found and (said := objective.wrong(plain(config.objective))):
        found["objective"] = said
    needs: list[tuple[str, str, list[Any], str]] = []
    traits: dict[str, Any] = {}
    for path, node in nodes(config):
        try:
            target = read(node["_target_"])
        except ConfigError as error:
            found[f"{path}._target_" if path else "_target_"] = str(error)
            continue
        group = path.partition(".")[0]
        needs += [(group, key, *need) for key, need in target.needs.items()]
        traits |= {f"{group}:{trait}": value for trait, value in target.traits.items()}
        for key in map(str, node):
            part = node._get_node(key)
            own = isinstance(part, DictConfig) and (part._is_none() or "_target_" in part)
            if own or key in ("_target_", "hydra"):
                continue  # a node of its own
            name = f"{path}.{key}" if path else key
            if key not in target.parameters:
                known = ", ".join(sorted(set(target.parameters) - target.facts))
                found[name] = f"no such key: {node['_target_']} has {known}"
                continue
            where, home, last = _home(config, node, key)
            if wrong := _wrong(home, last, target.parameters[key]):
                found[where or name] = _in_options(wrong, choices)
    for group, key, allowed, advice in needs:
        other = key.partition(":")[0]
        if other != key:
            value, said = traits.get(key, allowed[0]), f"{other}={choices.get(other)}"
        else:
            value = choices[key] if key in choices else OmegaConf.select(config, key)
            said = f"{key}={_say(value, quote=False)}"
        if value not in allowed and key not in found:
            found.setdefault(group, f"{choices.get(group)} does not go with {said}: {advice}")
    return found


def _home(config: DictConfig, node: DictConfig, key: str) -> tuple[str, DictConfig, str]:
    """Where the value of `key` is written: here, or in a group that nothing else checks, as `accelerator` is."""
    link = re.fullmatch(r"\$\{(\w+)\.(\w+)\}", str(node._get_node(key)))
    group = config.get(link[1]) if link else None
    if link is None or not isinstance(group, DictConfig) or "_target_" in group or link[2] not in group:
        return "", node, key
    return f"{link[1]}.{link[2]}", group, link[2]


def _wrong(node: DictConfig, key: Any, annotation: Any) -> str | None:
    try:
        value = plain(node[key])
    except MissingMandatoryValue:
        return f"say {key}=…: {describe(annotation)}"
    except OmegaConfBaseException as error:
        return first_line(error)
    if OmegaConf.is_interpolation(node, key):
        return None  # what it stands for is checked where it is written
    if allows(annotation, value):
        return None
    more = ", which has more than 64 bits" if is_large(value) else ""
    return f"must be {describe(annotation)}, not {_say(value)}{more}"


def _in_options(wrong: str, choices: Mapping[str, Any]) -> str:
    """`loss.beta` that is not found is something that this option does not have."""
    missing = re.fullmatch(r"Interpolation key '(\w+)\.(\w+)' not found", wrong)
    if missing is None or missing[1] not in choices:
        return wrong
    return f"leads to {missing[1]}.{missing[2]}, which {missing[1]}={choices[missing[1]]} does not have"


def _say(value: Any, quote: bool = True) -> str:
    text = repr(value) if quote else str(value)
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


def plain(value: Any) -> Any:
    """Dictionaries, lists and numbers instead of OmegaConf's containers, all interpolations resolved."""
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
