"""One page about one or many runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from vae_lightning.atomic import replaced
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.paths import expanded
from vae_lightning.progress import track
from vae_lightning.report.figure import style
from vae_lightning.report.files import markdown, write_configurations, write_runs
from vae_lightning.report.frontier import told
from vae_lightning.report.page import page
from vae_lightning.report.part import Part
from vae_lightning.report.run import Run, find, folder_of, read
from vae_lightning.report.setting import Setting, comparable, names
from vae_lightning.schema import NonNegativeInt

log = logging.getLogger("vae_lightning")


def report(
    runs: str | list[str],
    by: str | None = None,
    pictures: NonNegativeInt | None = None,
    title: str | None = None,
    out: str | None = None,
) -> Path:
    """`report.html`, and beside it `results.csv`, `runs.csv`, `results.md` and the frontier as PNG.

    Args:
        runs: run folders, or folders of sweeps, which stand for all their jobs.
        by: what the best run is chosen by: the name of a column; null: the estimated negative log-likelihood where all
            runs have it, judged alike, else the test ELBO.
        pictures: runs whose pictures are put into the page, the best first; null: all.
        title: of the page.
        out: the folder to write into; null: `report` in the folder that holds all runs.

    Returns:
        The page.

    Raises:
        ConfigError: there is no run, or no column `by`.
        UserError: the folder cannot be written to.
    """
    paths = [runs] if isinstance(runs, str) else runs
    folders = find(paths)
    base = _base(paths)
    every = [
        read(folder, name)
        for folder, name in zip(track(folders, "reading runs", len(folders)), _names(folders, base), strict=True)
    ]
    settings = comparable(every)
    parts = [Part.of(setting, by) for setting in settings]
    measured = dict.fromkeys(column.name for part in parts for column in part.table.columns if column.better)
    if by and measured and not any(part.best.column for part in parts):
        raise ConfigError(f"by={by}: no run has it; by is one of {', '.join(measured)}")
    target = expanded(out) if out is not None else base / "report"
    title = title or _title(every)
    notices = [*_notices(every, settings), *(note for part in parts for note in part.table.notes)]
    for notice in notices:
        log.warning("%s", notice)
    text = page(title, str(base), every, parts, notices, len(every) if pictures is None else pictures)
    try:
        target.mkdir(parents=True, exist_ok=True)
        _write(target, title, text, parts, notices)
    except OSError as error:
        raise UserError(f"{target}: cannot be written to ({error}); say out=<folder>") from error
    for part in parts:
        if part.best.row:
            log.info("%s: %s", part.table.setting.name, part.best.words)
    log.info("%s in %s", "1 run is" if len(every) == 1 else f"{len(every)} runs are", target / "report.html")
    return target / "report.html"


def _base(paths: Sequence[str]) -> Path:
    """The folder that holds all of them."""
    return Path(os.path.commonpath([folder_of(path).absolute() for path in paths]))


def _names(folders: Sequence[Path], base: Path) -> list[str]:
    return [f.name if (f := folder.absolute()) == base else os.path.relpath(f, base) for folder in folders]


def _title(runs: Sequence[Run]) -> str:
    data = dict.fromkeys(str(run.choices["data"]) for run in runs if "data" in run.choices)
    what = f"{len(runs)} runs" if len(runs) > 1 else f"Run {runs[0].name}"
    return f"{what} on {names(data)}" if data else what


def _notices(runs: Sequence[Run], settings: Sequence[Setting]) -> list[str]:
    """What a reader has to know before the numbers."""
    found = [f"run {run.name}: {trouble}" for run in runs for trouble in run.troubles]
    found += [
        f"run {run.name}: {run.state}"
        for run in runs
        if not run.finished and not (run.folder / "results.json").exists()
    ]
    if len(settings) > 1:
        each = names(f"“{setting.name}”" for setting in settings)
        found.append(
            "Numbers compare only where images, binarisation and likelihood are the same. There are "
            f"{len(settings)} such settings, {each}: each has its own ranking, and there is none over all."
        )
    return found


def _write(target: Path, title: str, text: str, parts: Sequence[Part], notices: Sequence[str]) -> None:
    tables = [part.table for part in parts]
    write_configurations(tables, target / "results.csv")
    write_runs(tables, target / "runs.csv")
    sections = [(part.table, part.best, told(part.families)) for part in parts]
    contents = {"results.md": markdown(title, sections, notices), "report.html": text}
    for name, content in contents.items():
        with replaced(target / name, encoding="utf-8") as file:
            file.write(content)
    drawn = [part.frontier for part in parts if part.frontier]
    for i, figure in enumerate(drawn, 1):
        name = "frontier.png" if len(drawn) == 1 else f"frontier-{i}.png"
        with replaced(target / name, "wb") as file, style(11):
            figure.savefig(file, format="png", dpi=140, facecolor="white")
