"""The report: exact numbers on run folders written by hand, honest rankings, one file that needs nothing else."""

from __future__ import annotations

import base64
import csv
import json
import math
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from vae_lightning import status
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.report import figure
from vae_lightning.report.difference import items, settings, split
from vae_lightning.report.frontier import families
from vae_lightning.report.part import Part
from vae_lightning.report.report import report
from vae_lightning.report.run import Run, find, read
from vae_lightning.report.setting import comparable
from vae_lightning.report.table import tabulate

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
BERNOULLI = "vae_lightning.likelihood.bernoulli.Bernoulli"
MSE = "vae_lightning.likelihood.mse.MSE"
NORMAL = "vae_lightning.likelihood.normal.Normal"


def write(
    folder: Path,
    results: dict[str, float] | str | None = None,
    evaluation: dict[str, Any] | str | None = None,
    curves: str | None = None,
    choices: dict[str, str] | None = None,
    **config: Any,
) -> Path:
    """A run folder; `loss__beta=2` is the key loss.beta. Texts are written as they are."""
    nested: dict[str, Any] = {
        "data": {"source": {"name": "MNIST"}, "binarize": "dynamic", "batch_size": 32},
        "likelihood": {"_target_": BERNOULLI},
        "loss": {"_target_": "vae_lightning.loss.elbo.ELBO", "beta": 1.0},
        "seed": 0,
        "trainer": {"max_epochs": 3},
    }
    for key, value in config.items():
        OmegaConf.update(node := OmegaConf.create(nested), key.replace("__", "."), value, force_add=True)
        nested = OmegaConf.to_container(node, resolve=False)  # type: ignore[assignment]
    chosen = {"data": "mnist", "likelihood": "bernoulli", "loss": "elbo", "model": "mlp", **(choices or {})}
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(nested, folder / ".hydra" / "config.yaml")
    OmegaConf.save({"hydra": {"runtime": {"choices": chosen}}}, folder / ".hydra" / "hydra.yaml")
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in config.items()]
    OmegaConf.save(overrides, folder / ".hydra" / "overrides.yaml")
    if isinstance(results, dict):
        results = json.dumps({"test": results, "versions": {"python": "3.11"}, "epochs": 3, "seconds": 1.5})
    if isinstance(evaluation, dict):
        evaluation = json.dumps({"metrics": evaluation})
    for name, text in (("results.json", results), ("evaluate.json", evaluation), ("metrics.csv", curves)):
        if text is not None:
            (folder / name).write_text(text)
    return folder


def measured(rate: float, distortion: float) -> dict[str, float]:
    return {"elbo": -(rate + distortion), "rate": rate, "distortion": distortion}


def likelihood(nll: float, samples: int = 100) -> dict[str, Any]:
    value = {"value": nll, "unit": "nats per image", "standard_error": 0.5, "note": f"{samples} importance samples"}
    value["better"] = "lower"
    return {"likelihood": {"settings": {"samples": samples}, "values": {"nll": value}}}


def runs_of(*folders: Path) -> list[Run]:
    return [read(folder, folder.name) for folder in folders]


def part_of(*folders: Path, by: str | None = None) -> Part:
    (setting,) = comparable(runs_of(*folders))
    return Part.of(setting, by)


@dataclass
class Page(HTMLParser):
    """A page, read strictly: what is opened is closed."""

    path: Path
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    rows: list[list[tuple[str, str]]] = field(default_factory=list)  # raw value and text of each cell
    EMPTY = frozenset({"meta", "img", "br", "link", "path", "use", "rect", "circle"})

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(self.path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append((dict(attrs).get("data-value") or "", ""))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            raw, text = self.rows[-1][-1]
            self.rows[-1][-1] = (raw, text + data)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for name, attrs in self.tags if name == tag and attribute in attrs]


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Four betas and three seeds, written in no order; rate 32 / beta, distortion 80 + 10 beta, both + or - 1."""
    folder = tmp_path / "sweep"
    for beta in (4, 0.5, 2, 1):
        for seed in (3, 1, 2):
            shift = seed - 2
            run = write(
                folder / f"{seed}_{beta}",
                measured(32 / beta + shift, 80 + 10 * beta - 2 * shift),
                likelihood(100 + 5 * abs(beta - 2) + shift),
                "step,train/epoch,train/loss,val/elbo\n"
                + "".join(f"{s},{s // 10},{200 / s},{-100 / s + shift}\n" for s in (10, 20, 30)),
                seed=seed,
                loss__beta=beta,
            )
            (run / "figures").mkdir()
            (run / "figures" / "samples.png").write_bytes(PIXEL)
    return folder


# ---- numbers --------------------------------------------------------------------------------------------------------
def test_mean_and_standard_deviation_over_seeds(tmp_path: Path) -> None:
    values = {1: -99.5, 2: -101.25, 3: -100.0}
    folders = [write(tmp_path / str(s), {"elbo": v}, seed=s) for s, v in values.items()]
    alone = write(tmp_path / "alone", {"elbo": -90.0}, seed=1, loss__beta=2)
    one, two = part_of(*folders, alone).table.rows
    assert one.cells["test/elbo"].mean == pytest.approx(-100.25, abs=1e-12)
    assert one.cells["test/elbo"].std == pytest.approx(math.sqrt((0.75**2 + 1 + 0.25**2) / 2), abs=1e-12)
    assert (two.cells["test/elbo"].mean, two.cells["test/elbo"].std) == (-90.0, None)
    report([str(tmp_path)])
    lines = table_of(tmp_path / "report" / "results.csv")
    assert [line["finished"] for line in lines] == ["3", "1"]
    assert float(lines[0]["test/elbo std"]) == one.cells["test/elbo"].std
    assert lines[1]["test/elbo std"] == ""
    assert "±" not in (tmp_path / "report" / "results.md").read_text().splitlines()[-1]


def test_a_configuration_is_everything_but_the_seed(tmp_path: Path) -> None:
    same = [
        write(tmp_path / "a", {"elbo": -1.0}, seed=1),
        write(tmp_path / "b", {"elbo": -2.0}, seed=2, loss__beta=1),  # 1 and 1.0 are the same number
        write(tmp_path / "c", {"elbo": -3.0}, seed=3, ckpt="outputs/x", data__root="/elsewhere"),
        write(tmp_path / "d", {"elbo": -4.0}, seed=4, trainer__enable_progress_bar=False),
    ]
    other = [
        write(tmp_path / "e", {"elbo": -5.0}, seed=1, trainer__max_epochs=4),
        write(tmp_path / "f", {"elbo": -6.0}, seed=1, data__batch_size=64),
        write(tmp_path / "g", {"elbo": -7.0}, seed=1, choices={"model": "conv"}),
    ]
    rows = part_of(*same, *other).table.rows
    assert sorted([run.name for run in row.runs] for row in rows) == [["a", "b", "c", "d"], ["e"], ["f"], ["g"]]
    assert sorted(row.label for row in rows)[0] == "model=conv, data.batch_size=32, trainer.max_epochs=3"


def test_what_runs_share_and_where_they_differ(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / "a", seed=1, model={"_target_": "x.mlp", "hidden": [400]}),
        write(tmp_path / "b", seed=2, model={"_target_": "x.conv", "channels": [32]}, choices={"model": "conv"}),
    ]
    every = [items(run) for run in runs_of(*folders)]
    shared, different = split(every)
    assert set(different) == {"seed", "model", "model._target_", "model.hidden", "model.channels"}
    assert shared["loss.beta"] == "1"
    assert shared.keys() | set(different) == every[0].keys() | every[1].keys()
    table = part_of(*folders).table
    assert table.keys == ["model"]  # its values follow from it
    assert [settings(row.runs[0])["model"] for row in table.rows] == ["conv", "mlp"]


def test_all_files_carry_the_same_numbers(sweep: Path) -> None:
    page = Page(report([str(sweep)]))
    folder = sweep / "report"
    lines = table_of(folder / "results.csv")
    grid = [line.strip("| ").split(" | ") for line in (folder / "results.md").read_text().splitlines() if "|" in line]
    markdown = {tuple(row) for row in grid[2:]}
    shown = [row for row in page.rows if len(row) == 6 and row[0][0] in ("0.5", "1", "2", "4")]
    assert [row[0][0] for row in shown] == [line["loss.beta"] for line in lines] == ["0.5", "1", "2", "4"]
    columns = [text.split("nats")[0] for _, text in page.rows[1]][2:]
    assert columns == ["nll", "elbo", "rate", "distortion"]
    for row, line, cells in zip(shown, lines, grid[2:], strict=True):
        beta = float(line["loss.beta"])
        assert float(line["test/rate"]) == pytest.approx(32 / beta)
        assert float(line["test/rate std"]) == pytest.approx(1)
        assert float(line["likelihood/nll std"]) == pytest.approx(1)
        keys = ["likelihood/nll", "test/elbo", "test/rate", "test/distortion"]
        assert [float(raw) for raw, _ in row[2:]] == [float(line[key]) for key in keys]
        said = [text.replace("*", "") for text in cells[2:]]
        assert [text for _, text in row[2:]] == said
        for text, key in zip(said, keys, strict=True):
            mean, std = (float(number) for number in text.replace("\N{MINUS SIGN}", "-").split(" ± "))
            assert (mean, std) == pytest.approx((float(line[key]), float(line[f"{key} std"])), abs=0.051)
    assert len(markdown) == 4
    each = table_of(folder / "runs.csv")
    assert len(each) == 12
    assert {(r["run"], float(r["test/rate"])) for r in each if r["loss.beta"] == "2"} == {
        ("1_2", 15.0),
        ("2_2", 16.0),
        ("3_2", 17.0),
    }


# ---- rankings -------------------------------------------------------------------------------------------------------
def test_best_by_nll_where_all_have_it(sweep: Path) -> None:
    folders = find([str(sweep)])
    best = part_of(*folders).best
    assert (best.column.key, best.row.label, best.run.name) == ("likelihood/nll", "loss.beta=2", "1_2")
    best = part_of(*folders, by="elbo").best  # rate + distortion: 149, 122, 116, 128
    assert (best.column.key, best.row.label) == ("test/elbo", "loss.beta=2")
    (sweep / "1_2" / "evaluate.json").unlink()
    best = part_of(*folders).best
    assert best.column.key == "test/elbo"
    assert "11 of 12" in best.remarks
    best = part_of(*folders, by="nll").best
    assert "1 of 12 finished runs do not have it" in best.remarks


def test_runs_that_were_not_judged_alike_are_not_ranked_by_it(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"elbo": -110.0}, likelihood(100, samples=50), loss__beta=1)
    b = write(tmp_path / "b", {"elbo": -109.0}, likelihood(101, samples=5000), loss__beta=2)
    part = part_of(a, b)
    assert (part.best.column.key, part.best.row.label) == ("test/elbo", "loss.beta=2")
    assert "not all were judged alike" in part.best.remarks
    nll = next(column for column in part.table.columns if column.name == "nll")
    assert "50" in nll.caution
    assert "5000" in nll.caution


def test_a_loss_of_its_own_ranks_nothing(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"loss": 1.0}, loss__beta=1)
    b = write(tmp_path / "b", {"loss": 2.0}, loss__beta=2)
    assert part_of(a, b).best.row is None
    assert "loss.beta" in part_of(a, b, by="loss").best.remarks
    c = write(tmp_path / "c", {"loss": 0.5}, trainer__max_epochs=9)
    assert part_of(a, c).best.run.name == "c"


def test_a_setting_without_the_column_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a", {"elbo": -1.0}, likelihood(1))
    write(tmp_path / "b", {"elbo": -1.0}, data__binarize="static")
    page = Page(report([str(tmp_path)], by="nll"))
    assert "No run has nll." in page.text
    assert page.text.count("Result, by") == 1


@pytest.mark.parametrize("by", ["rate", "nosuch"])
def test_a_column_that_cannot_rank_is_refused(sweep: Path, by: str) -> None:
    with pytest.raises(ConfigError, match=f"by={by}"):
        report([str(sweep)], by=by)


@pytest.mark.parametrize(
    ("config", "apart"),
    [
        ({"data__source__name": "KMNIST"}, True),
        ({"data__binarize": "static"}, True),
        ({"data__limit": 100}, True),
        ({"likelihood__sigma": 1, "data__batch_size": 64}, False),  # densities over the same images
        ({"data__val_size": 100, "data__labelled": 10}, False),
        ({"likelihood___target_": NORMAL}, True),
    ],
)
def test_only_like_is_compared_with_like(tmp_path: Path, config: dict[str, Any], apart: bool) -> None:
    a = write(tmp_path / "a", measured(10, 90))
    b = write(tmp_path / "b", measured(10, 80), **config)
    every = comparable(runs_of(a, b))
    assert len(every) == 1 + apart
    best = [Part.of(setting, None).best.run.name for setting in every]
    assert best == (["a", "b"] if apart else ["b"])
    assert [setting.name for setting in every] == list(dict.fromkeys(setting.name for setting in every))


def test_energies_of_another_scale_are_not_compared(tmp_path: Path) -> None:
    a = write(tmp_path / "a", {"loss": 1.0}, likelihood={"_target_": MSE, "weight": 1})
    b = write(tmp_path / "b", {"loss": 2.0}, likelihood={"_target_": MSE, "weight": 2})
    page = Page(report([str(tmp_path)]))
    assert "each has its own ranking, and there is none over all" in page.text
    every = comparable(runs_of(a, b))
    assert [setting.density for setting in every] == [False, False]
    assert "weight=1" in every[0].name
    assert "weight=2" in every[1].name


# ---- the frontier ---------------------------------------------------------------------------------------------------
def test_the_frontier_is_joined_in_the_order_of_beta(sweep: Path) -> None:
    for seed in (1, 2, 3):
        write(sweep / f"{seed}_10", measured(3.2, 180), likelihood(120), seed=seed, loss__beta=10)
    part = part_of(*find([str(sweep)]))
    (family,) = part.families
    assert [point.beta for point in family.points] == [0.5, 1, 2, 4, 10]
    assert family.monotone
    assert "is monotone: from β = 0.5 to β = 10" in family.words
    axes = part.frontier.axes[0]
    joined = next(line for line in axes.lines if len(line.get_xdata()) == 5)
    assert list(joined.get_xdata()) == pytest.approx([64, 32, 16, 8, 3.2])
    assert list(joined.get_ydata()) == pytest.approx([85, 90, 100, 120, 180])
    bars = axes.containers[1]  # of beta = 1: one standard deviation to either side
    (across,), (up,) = (lines.get_segments() for lines in bars.lines[2])
    assert across[:, 0].tolist() == pytest.approx([31, 33])
    assert up[:, 1].tolist() == pytest.approx([88, 92])
    labels = [text for text in axes.texts if text.get_text().startswith("ELBO")]
    assert labels
    for text in labels:  # on its line, rate + distortion is what it says
        said = float(text.get_text().removeprefix("ELBO ").replace("\N{MINUS SIGN}", "-"))
        assert -sum(text.get_position()) == pytest.approx(said)
    assert {line.get_slope() for line in axes.lines if hasattr(line, "get_slope")} == {-1}


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ((12, 95), "the rate rises by 2.00"),
        ((8, 85), "the distortion falls by 5.00"),
        ((12, 85), "the rate rises by 2.00 and the distortion falls by 5.00"),
    ],
)
def test_a_frontier_that_is_not_monotone(tmp_path: Path, second: tuple[float, float], words: str) -> None:
    points = {1: (10, 90), 2: second, 4: (1, 120)}
    folders = [write(tmp_path / str(b), measured(*p), loss__beta=b) for b, p in points.items()]
    (family,) = part_of(*folders).families
    assert not family.monotone
    assert f"not monotone: from β = 1 to β = 2 {words}" in family.words
    assert "from β = 2 to β = 4" not in family.words


def test_only_what_differs_in_beta_alone_is_joined(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / f"{m}{b}", measured(10 / b, 90 + b + len(m)), loss__beta=b, choices={"model": m})
        for m in ("mlp", "conv")
        for b in (2, 1)
    ]
    part = part_of(*folders)
    found = {f.label: [p.beta for p in f.points] for f in part.families}
    assert found == {"model=mlp": [1, 2], "model=conv": [1, 2]}
    assert families(tabulate(comparable(runs_of(folders[0]))[0])) == []


# ---- curves ---------------------------------------------------------------------------------------------------------
def test_curves_are_means_with_a_band(sweep: Path) -> None:
    (sweep / "3_4" / "results.json").unlink()  # its curve is drawn by itself
    table = part_of(*find([str(sweep)])).table
    axes = figure.curves(table, "val/elbo").axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 5
    assert list(lines[0].get_xdata()) == [10, 20, 30]
    assert list(lines[0].get_ydata()) == pytest.approx([-10, -5, -100 / 30])
    band = axes.collections[0].get_paths()[0].vertices
    assert {round(y + 5, 9) for x, y in band if x == 20} == {-1, 1}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("optimiser steps", "nats per image")
    assert lines[4].get_linestyle() == ":"


def test_long_curves_keep_their_end() -> None:
    curve = [(step, float(step)) for step in range(1000)]
    thinned = figure._thinned(curve)
    assert len(thinned) <= figure.POINTS
    assert thinned[-1] == curve[-1]


# ---- what went wrong ------------------------------------------------------------------------------------------------
def test_a_run_without_results_is_listed(tmp_path: Path) -> None:
    write(tmp_path / "good", {"elbo": -1.0}, seed=1)
    failed = write(tmp_path / "failed", seed=2)
    status.update(failed, state="failed", reason="not finite <b>\nmore")
    write(tmp_path / "killed", curves="step,train/epoch\n5,0.0\n9,1.0\n", seed=3)
    page = Page(report([str(tmp_path)]))
    text = (tmp_path / "report" / "results.md").read_text()
    assert "run failed: failed: not finite <b>" in page.text
    assert "no results: stopped, or still running, after epoch 2 of 3" in page.text
    assert "1 of 3" in page.text
    assert "| 1 of 3 |" in text
    states = {r["run"]: r["state"] for r in table_of(tmp_path / "report" / "runs.csv")}
    assert states["good"] == "finished"
    assert states["failed"] == "failed: not finite <b>"
    assert len(states) == 3


def test_no_run_has_results(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert "No run has results." in Page(report([str(tmp_path)])).text


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [
        ("results.json", '{"test": {"elbo": -1', "damaged"),
        ("results.json", '{"test": {"elbo": NaN}}', "NaN"),
        ("results.json", '{"test": {"elbo": 1e999}}', "test.elbo is inf"),
        ("results.json", '{"test": {"elbo": "-1"}}', "test.elbo is '-1'"),
        ("results.json", "{}", "test"),
        ("results.json", "[1]", "damaged"),
        (
            "evaluate.json",
            '{"metrics": {"likelihood": {"values": {"nll": {"value": null}}}}}',
            "likelihood/nll is None",
        ),
        ("evaluate.json", '{"metrics": {"likelihood": 3}}', "damaged"),
        ("evaluate.json", "", "damaged"),
        ("metrics.csv", "step,val/elbo\n1,-3\n2,abc\n", "abc"),
        ("metrics.csv", "val/elbo\n-3\n", "step"),
        (".hydra/config.yaml", "loss: [", "damaged"),
        (".hydra/hydra.yaml", "3", "damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, text: str, word: str) -> None:
    good = write(tmp_path / "good", {"elbo": -1.0}, likelihood(3), "step,val/elbo\n1,-3\n", seed=1)
    bad = write(tmp_path / "bad", {"elbo": -0.5}, likelihood(2), "step,val/elbo\n1,-3\n", seed=2)
    (bad / file).write_text(text)
    (trouble,) = read(bad, "bad").troubles
    assert trouble.startswith(file)
    assert word in trouble
    assert read(good, "good").troubles == []
    if word == "NaN":
        page = Page(report([str(tmp_path)]))
        assert f"run bad: {trouble}" in page.text
        assert "run good:" not in page.text


def test_a_seed_that_was_run_twice_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, {"elbo": -1.0}, seed=7)
    assert "seed 7 was run more than once" in Page(report([str(tmp_path)])).text


def test_what_is_found(tmp_path: Path) -> None:
    for job in ("10", "9", "1"):
        write(tmp_path / "sweep" / job, {"elbo": -1.0})
    (tmp_path / "empty").mkdir()
    (tmp_path / "sweep" / "9" / "checkpoints").mkdir()
    checkpoint = tmp_path / "sweep" / "9" / "checkpoints" / "best.ckpt"
    checkpoint.touch()
    assert [f.name for f in find([str(tmp_path)])] == ["1", "9", "10"]
    assert [f.name for f in find([str(checkpoint), str(tmp_path / "sweep" / "9")])] == ["9"]
    assert report([str(checkpoint)]) == tmp_path / "sweep" / "9" / "report" / "report.html"
    with pytest.raises(ConfigError, match="no run in it"):
        find([str(tmp_path / "empty")])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path / "a", {"elbo": -1.0})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="out="):
        report([str(tmp_path)], out=str(tmp_path / "file" / "below"))


# ---- the page -------------------------------------------------------------------------------------------------------
def test_the_page_needs_nothing_else(sweep: Path) -> None:
    path = report([str(sweep)])
    page, text = Page(path), path.read_text()
    for attribute in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
        for tag in {name for name, _ in page.tags}:
            assert all(value.startswith(("data:image/", "#")) for value in page.values(tag, attribute))
    assert re.findall(r"url\((?!#)|@import|https?:|<link|<base|<iframe", text) == []
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {v[1:] for name, _ in page.tags for v in page.values(name, "href")}
    targets |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert targets <= set(ids)
    assert len([tag for tag, _ in page.tags if tag == "svg"]) >= 3
    pictures = page.values("img", "src")
    assert len(pictures) == 12
    assert {base64.b64decode(p.partition("base64,")[2]) for p in pictures} == {PIXEL}
    assert (sweep / "report" / "frontier.png").read_bytes().startswith(b"\x89PNG")


HOSTILE = '<script>alert(\'&"1")</script> $\\nosuch$ _| `x`'


def test_what_comes_from_files_is_text(tmp_path: Path) -> None:
    name = "<script>1<|script>"
    evaluation = likelihood(3.0)
    evaluation["likelihood"]["values"]["nll"] |= {"note": HOSTILE, "unit": HOSTILE}
    evaluation[HOSTILE.replace("/", "")] = {"skipped": HOSTILE}
    curves = f'step,"val/{HOSTILE.replace(chr(34), "")}",val/elbo\n1,2,3\n2,3,4\n'
    for beta in (1, 2):
        write(
            tmp_path / f"{name}{beta}",
            {"elbo": -1.0, "rate": 1.0 / beta, "distortion": 1.0, HOSTILE: 2.0},
            evaluation,
            curves,
            loss__beta=beta,
            data__source__name=HOSTILE,
            trainer__note=f"{HOSTILE}{beta}",
            choices={"model": f"{HOSTILE}{beta}"},
        )
    failed = write(tmp_path / "failed", data__source__name=HOSTILE)
    status.update(failed, state="failed", reason=HOSTILE)
    page = Page(report([str(tmp_path)], title=HOSTILE))
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert page.text.count(HOSTILE) > 10
    assert name in page.text
    assert "<script>" not in (tmp_path / "report" / "results.md").read_text()


def test_as_many_pictures_as_asked_for_the_best_first(tmp_path: Path) -> None:
    for name, elbo in (("a", -3.0), ("b", -1.0), ("c", -2.0)):
        run = write(tmp_path / name, {"elbo": elbo}, seed=ord(name))
        (run / "figures").mkdir()
        (run / "figures" / f"of_{name}.png").write_bytes(PIXEL)
    assert Page(report([str(tmp_path)], pictures=1)).values("img", "alt") == ["of b of run b"]


def test_a_command_line_runs_it_again(tmp_path: Path) -> None:
    write(tmp_path / "a", {"elbo": -1.0}, data__source__name="it's a 'name'", loss__beta=2)
    page = Page(report([str(tmp_path)]))
    (line,) = re.findall(r"python -m vae_lightning .*", page.text)
    assert shlex.split(line)[3:] == ["data.source.name=it's a 'name'", "loss.beta=2"]


def test_the_command_needs_no_torch(sweep: Path) -> None:
    code = (
        "import sys, runpy\n"
        "try:\n    runpy.run_module('vae_lightning.report', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    arguments = [sys.executable, "-c", code, str(sweep / "1_1"), str(sweep / "2_1"), "by=elbo"]
    done = subprocess.run(arguments, cwd=sweep, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 runs are in" in done.stdout
    assert (sweep / "report" / "report.html").is_file()


@pytest.fixture
def open_page() -> Iterator[Callable[[Path], Any]]:
    """A page in a browser without a window."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("no browser: install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])

        def visit(path: Path) -> Any:
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.on("pageerror", lambda error: pytest.fail(str(error)))
            page.goto(path.as_uri())
            return page

        yield visit
        browser.close()


def test_a_reader_sorts_and_unfolds(sweep: Path, open_page: Callable[[Path], Any]) -> None:
    page = open_page(report([str(sweep)]))
    first = page.locator("table.results tbody > tr:first-child > th:first-child")
    heading = page.get_by_role("button", name="nll", exact=True)
    order = []
    for _ in range(2):
        heading.click()
        order.append([re.sub(r"[^\d.]", "", text) for text in first.all_inner_texts()])
    nll = {"2": 100, "1": 105, "0.5": 107.5, "4": 110}
    assert order == [sorted(nll, key=lambda b: nll[b]), sorted(nll, key=lambda b: -nll[b])]
    runs = page.locator("tr.run")
    assert sum(row.is_visible() for row in runs.all()) == 0
    page.locator("button.more").first.click()
    assert sum(row.is_visible() for row in runs.all()) == 3
    page.locator("tr.run:visible a").first.click()
    assert page.locator("details.gallery:target").get_attribute("open") is not None
    assert page.evaluate("document.documentElement.scrollWidth") == 1200
    assert statistics.fmean(page.locator("figure.plot svg").first.bounding_box()[k] for k in ("width", "height")) > 300
