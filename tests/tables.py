"""The README's tables of variants, written from conf/, the docstrings and `NEEDS`: `python tests/tables.py`."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.harness import kept
from benchmark.harness import table as speed_table
from omegaconf import OmegaConf

from vae_lightning.check import ROOT, nodes, plain, problems, read
from vae_lightning.compose import compose
from vae_lightning.paths import CONF

README = Path(__file__).parents[1] / "README.md"
DECIDES = {
    "data": "the images, or vectors",
    "model": "the networks",
    "posterior": "q(z given x)",
    "prior": "p(z)",
    "likelihood": "p(x given z)",
    "loss": "what is minimised",
    "beta": "the way to `loss.beta`",
    "optimizer": "the steps",
    "scheduler": "the learning rate over time",
    "accelerator": "device, precision, processes",
    "trainer": "epochs, clipping, accumulation, intervals",
    "callback": "extras, in brackets if several: `callback=[ema,early_stopping]`",
    "logger": "where curves go; `default` is TensorBoard and CSV",
    "experiment": "a whole setting, such as a published one",
}
NAMES = {
    group: sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    for group in (*DECIDES, "metric", "what", "sampler")
}
GROUPS = ("model", "posterior", "prior", "likelihood", "loss")
AUTHOR = r"(?:(?:van|den|der|de|von) )*[A-Z][\w-]+(?: et al\.| and (?:(?:van|den|der|de|von) )*[A-Z][\w-]+)?"
CITATION = re.compile(rf'({AUTHOR} \(\d{{4}}\))(?:, "[^"]*")?(?:, (arXiv:\d{{4}}\.\d{{4,5}}|10\.\d{{4,}}/[^\s,;]+))?')


class Option(NamedTuple):
    """What an option's own file and its target say about it."""

    what: str
    papers: list[tuple[str, str]]  # author (year), and its arXiv number, its DOI or ""


def texts() -> dict[str, str]:
    """The generated sections of the README, by the name of their markers."""
    return {
        "groups": groups(),
        "speed": speed_table(kept()),
        "variants": variants(),
        "combinations": combinations(),
        "metrics": _options("metric"),
        "generate": "\n\n".join(map(_options, ("what", "sampler"))),
    }


def written(readme: str) -> str:
    """`readme` with every generated section in its place."""
    for name, text in texts().items():
        pattern = rf"(<!-- {name} -->).*?(<!-- /{name} -->)"
        readme, count = re.subn(pattern, lambda m, text=text: f"{m[1]}\n\n{text}\n\n{m[2]}", readme, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"README.md has {count} sections between <!-- {name} --> and <!-- /{name} -->, not one")
    return readme


def groups() -> str:
    """A table of all groups: name, what it decides, options with the default first."""
    default = compose()[1]
    rows = [
        [f"`{group}`", DECIDES[group], _code(sorted(names, key=lambda name, group=group: name != default.get(group)))]
        for group, names in NAMES.items()
        if group in DECIDES
    ]
    return _table(["group", "decides", "options"], rows)


# Variants


def variants() -> str:
    """For the groups that make a model a table each: name, what it is, papers."""
    return "\n\n".join(map(_options, ("data", *GROUPS)))


def _options(group: str) -> str:
    """The options of a group: name, what it is, papers."""
    return _table([f"`{group}=`", "what it is", "paper"], [_row(group, name) for name in NAMES[group]])


def _row(group: str, name: str) -> list[str]:
    option = describe(group, name)
    papers = "; ".join(_link(*paper) for paper in option.papers)
    return [f"`{name}`", option.what.replace("|", "\\|"), papers or "–"]


def describe(group: str, name: str) -> Option:
    """An option in the words of its YAML's first line, or else of its docstring.

    A citation that has no number in the YAML takes that of the docstring. Where the YAML cites nothing the first
    paper of the docstring counts, unless several options share the docstring.

    >>> describe("loss", "iwae")
    Option(what='The importance-weighted bound', papers=[('Burda et al. (2016)', 'arXiv:1509.00519')])
    """
    comment, target = _yaml(group, name)
    shared = sum(_yaml(group, other)[1] == target for other in NAMES[group]) > 1
    docstring = _docstring(target)
    numbers = dict(_citations(docstring))
    cited = _citations(comment) or ([] if shared else _citations(docstring)[:1])
    what = _sentence(comment) or _sentence(docstring)
    return Option(what, [(who, number or numbers.get(who, "")) for who, number in cited[:2]])


def _yaml(group: str, name: str) -> tuple[str, str]:
    """The first comment and the target of an option."""
    text = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
    comment = text.partition("\n")[0]
    node = OmegaConf.create(text)
    target = node.get("_target_") or next(iter(node.values()))["_target_"]
    return comment[2:] if comment.startswith("# ") else "", target


def _docstring(target: str) -> str:
    module, _, name = target.rpartition(".")
    spec = importlib.util.find_spec(module)
    tree = ast.parse(Path(spec.origin or "").read_text(encoding="utf-8")) if spec else ast.Module([], [])
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name]
    return " ".join((ast.get_docstring(found[-1]) or "").split()) if found else ""


def _citations(text: str) -> list[tuple[str, str]]:
    """Who and where, each paper once, a number wherever one is given."""
    found: dict[str, str] = {}
    for who, number in CITATION.findall(text):
        found[who] = found.get(who) or number.rstrip(".")
    return list(found.items())


def _sentence(text: str) -> str:
    """The first sentence, without citations.

    >>> _sentence("A bound. Burda et al. (2016), arXiv:1509.00519.")
    'A bound'
    """
    cited = CITATION.search(text)
    return (text[: cited.start()] if cited else text).partition(". ")[0].strip(" .,:;")


def _link(who: str, number: str) -> str:
    if not number:
        return who
    url = number.replace("arXiv:", "https://arxiv.org/abs/") if "arXiv" in number else f"https://doi.org/{number}"
    return f"[{who}]({url})"


# Combinations

Plain = dict[str, Any]
HEADS = ("posterior", "prior", "loss")
GRIDS = (
    ("posterior", "prior"),
    ("posterior", "model"),
    ("loss", "posterior"),
    ("loss", "model"),
    ("loss", "likelihood"),
)
SAID = {"condition": [None, "label"], "data.binarize": ["dynamic", "none"]}  # what an option asks for may be said


@cache
def combinations() -> str:
    """Which posteriors go with which priors and models; which losses with which posteriors, models and likelihoods.

    Two options go together if some posterior, prior and loss that run with the other defaults run with both.
    """
    heads = [dict(zip(HEADS, names, strict=True)) for names in product(*(NAMES[group] for group in HEADS))]
    heads = [choice for choice in heads if _runs(choice)]

    def together(rows: str, columns: str) -> str:
        def goes(row: str, column: str) -> bool:
            fixed = {rows: row, columns: column}
            found = (choice for choice in heads if all(choice.get(g, name) == name for g, name in fixed.items()))
            return any(_runs(choice | fixed) for choice in found)

        return _grid(rows, columns, goes)

    return "\n\n".join(together(rows, columns) for rows, columns in GRIDS)


def _runs(options: dict[str, str]) -> bool:
    """Whether `options` and the defaults of the other groups could run, with some condition and binarisation."""
    config, defaults, parts = _plain()
    choices = {**defaults, **options}
    chosen = {group: parts[group, choices[group]] for group in GROUPS}
    for condition, binarize in product(*SAID.values()):
        said = {"condition": condition, "data": {**config["data"], "binarize": binarize}}
        wrong = problems(OmegaConf.create({**config, **chosen, **said}), choices).values()
        if not wrong:
            return True
        if not all(any(f"does not go with {key}=" in text for key in SAID) for text in wrong):
            return False
    return False


@cache
def _plain() -> tuple[Plain, dict[str, str], dict[tuple[str, str], Plain]]:
    """The default configuration, the option it takes in each group, and every option: no more than `NEEDS` look at."""
    base, choices = compose()
    parts = {}
    for group in GROUPS:
        for name in NAMES[group]:
            config = base.copy()
            config[group] = OmegaConf.load(CONF / group / f"{name}.yaml")
            parts[group, name] = config[group]
    needs = {key for part in (base.data, *parts.values()) for _, n in nodes(part) for key in read(n["_target_"]).needs}
    rest = {**{key: base[key] for key in ROOT}, "data": _cut(plain(base.data), "data", needs)}
    return rest, choices, {key: _cut(plain(part), key[0], needs) for key, part in parts.items()}


def _cut(node: Plain, path: str, needs: set[str]) -> Plain:
    kept = {key: value for key, value in node.items() if isinstance(value, dict) or key == "_target_"}
    kept |= {key: value for key, value in node.items() if f"{path}.{key}" in needs}
    return {k: _cut(v, f"{path}.{k}", needs) if isinstance(v, dict) else v for k, v in kept.items()}


def _grid(rows: str, columns: str, goes: Callable[[str, str], bool]) -> str:
    """A table of ticks, where equal rows and equal columns are one."""
    ticks = {(r, c): goes(r, c) for r, c in product(NAMES[rows], NAMES[columns])}
    across = _alike(NAMES[columns], lambda c: tuple(ticks[r, c] for r in NAMES[rows]))
    down = _alike(NAMES[rows], lambda r: tuple(ticks[r, c] for c in NAMES[columns]))
    body = [[_code(r), *("✓" if ticks[r[0], c[0]] else "" for c in across)] for r in down]
    return _table([f"{rows} \\ {columns}", *map(_code, across)], body, middle=True)


def _alike(names: Iterable[str], key: Callable[[str], Any]) -> list[list[str]]:
    found: dict[Any, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return list(found.values())


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: list[str], body: list[list[str]], middle: bool = False) -> str:
    rule = "|".join(["", "---", *(":-:" if middle else "---" for _ in head[1:]), ""])
    first, *others = ["| " + " | ".join(row) + " |" for row in [head, *body]]
    return "\n".join([first, rule, *others])


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
