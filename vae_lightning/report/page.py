"""The page: everything in one file, which opens from disk and asks nothing of a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import vae_lightning
from vae_lightning.report.difference import ABSENT, items, said, split, telling
from vae_lightning.report.part import Part
from vae_lightning.report.run import Run
from vae_lightning.report.setting import names
from vae_lightning.report.table import natural
from vae_lightning.report.view import part_view, run_views

HERE = Path(__file__).parent
TYPES = {".png": "image/png", ".gif": "image/gif"}


def page(title: str, where: str, runs: Sequence[Run], parts: Sequence[Part], notices: Sequence[str], n: int) -> str:
    """The page as HTML.

    Args:
        title: its heading.
        where: which folders it is about.
        runs: all runs.
        parts: runs that can be compared, with their results and plots.
        notices: what to mind.
        n: runs whose pictures go into it.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    views = run_views(runs, parts)
    for i, view in enumerate(views.values()):
        view["pictures"] = [(_words(p.stem), _data(p)) for p in view["files"]] if i < n else []
        view["no_pictures"] = "Left out: say pictures=null to have all." if view["files"] else "None were drawn."
    shared, different = split([items(run) for run in runs])
    every = [items(run) for run in runs]
    groups = list(dict.fromkeys(group for run in runs for group in run.choices))[::-1]  # Hydra has the last one first
    differing = [
        (key, sorted({one.get(key, ABSENT) for one in every}, key=natural))
        for key in sorted(different, key=lambda key: key not in groups)
        if not (key.endswith("_target_") and key.partition(".")[0] in groups)  # it follows from the option
    ]
    text: str = environment.get_template("page.html").render(
        title=title,
        where=where,
        css=_own("page.css"),
        script=_own("page.js"),
        facts=_facts(runs, parts),
        lead=_lead([(key, dict(differing)[key]) for key in telling(every, groups) if key in dict(differing)]),
        notices=notices,
        parts=[part_view(part, views, i) for i, part in enumerate(parts)],
        differing=differing,
        options=[(group, shared[group]) for group in groups if group in shared],
        shared=[(key, value) for key, value in shared.items() if key not in groups and not key.endswith("_target_")],
        gallery=list(views.values()),
        runs=[views[run.folder] for run in runs],
        made_by=_made_by(runs),
        now=f"{datetime.now():%Y-%m-%d %H:%M}",
        version=vae_lightning.__version__,
    )
    return text


def _own(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))


def _data(picture: Path) -> str:
    return f"data:{TYPES[picture.suffix]};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _facts(runs: Sequence[Run], parts: Sequence[Part]) -> list[tuple[str, str]]:
    done, rows = sum(run.finished for run in runs), sum(len(part.table.rows) for part in parts)
    seeds = len({said(run.seed) for run in runs})
    found = [
        (str(len(runs)), f"run{'s' * (len(runs) != 1)}" + ("" if done == len(runs) else f", {done} finished")),
        (str(rows), f"configuration{'s' * (rows != 1)}"),
        (str(seeds), f"seed{'s' * (seeds != 1)}"),
    ]
    return [*found, (str(len(parts)), "settings that cannot be compared")] if len(parts) > 1 else found


def _lead(differing: Sequence[tuple[str, list[str]]]) -> list[str]:
    """What was run, in a sentence."""
    if not differing:
        return []
    told = [f"{key} ({', '.join(values[:8])}{', …' * (len(values) > 8)})" for key, values in differing[:6]]
    more = [f"{len(differing) - 6} more keys"] if len(differing) > 6 else []
    return [f"They differ in {names([*told, *more])}."]


def _made_by(runs: Sequence[Run]) -> list[str]:
    """With which versions, and which runs."""
    kinds: dict[str, list[str]] = {}
    for run in runs:
        if versions := run.results.get("versions"):
            kinds.setdefault(", ".join(f"{k} {v}" for k, v in dict(versions).items()), []).append(run.name)
    if len(kinds) == 1:
        return [f"With {next(iter(kinds))}."]
    return [f"{names(members)}: with {versions}." for versions, members in kinds.items()]
