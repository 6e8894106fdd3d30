"""Mistakes are found together, in words, before anything is loaded or written."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import forked
import hydra
import pytest
from conftest import COMPANIONS, command, options
from mistakes import BAD, MODELS, OTHERS, arguments

from vae_lightning import command_line
from vae_lightning.check import nodes, problems, read
from vae_lightning.command import run, start, visible
from vae_lightning.command_line import INTERVAL, check
from vae_lightning.compose import compose
from vae_lightning.override import quoted
from vae_lightning.paths import CONF
from vae_lightning.resume import expand


@pytest.mark.parametrize(("line", "words"), BAD, ids=[str(line)[:60] for line, _ in BAD])
def test_bad_commands(line: str | list[str], words: list[str]) -> None:
    assert sorted(check(arguments(line))) == sorted(words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model=mlp,conv loss.beta=1,-2", ["loss.beta: must be a number >= 0, not -2"]),
        ("model=mlp,con", [f"model=con: no such option; did you mean conv?; model is one of {MODELS}"]),
        ("seed=range(0,3) loss.beta=interval(0,4)", [f"loss.beta=interval(0,4): {INTERVAL}"]),
        ("hydra/sweeper=optuna seed=range(0,3) loss.beta=interval(0,4)", []),
        ("hydra/sweeper=optuna loss.beta=interval(-1,4)", ["loss.beta: must be a number >= 0, not -1.0"]),
        (
            "hydra/sweeper=optuna hydra.sweeper.sampler=tp seed=1,2",
            ["hydra.sweeper.sampler: must be one of tpe, cmaes, random, grid, not 'tp'"],
        ),
        (
            "hydra/sweeper=grid hydra.sweeper.max_batch_size=0 seed=1,2",
            ["hydra.sweeper.max_batch_size: must be a whole number >= 1, or null, not 0"],
        ),
        ("hydra.launcher.n_jobs=0 seed=1,2", ["hydra.launcher.n_jobs: must be a whole number >= 1, not 0"]),
        ("objective=elbo seed=1,2", ["objective: elbo is not of the form val/… or test/…: say test/elbo"]),
        (
            "model=mlp,resnet model.hidden=[100]",
            [
                "model.hidden=[100]: no such key; "
                "model has latent_dim, channels, blocks, activation, negative_slope, norm"
            ],
        ),
        ("model=mlp,conv loss.beta=1,2,4", []),
        ("model.hidden=[100],[200,200]", []),
    ],
)
def test_sweeps_are_checked_value_by_value(line: str, words: list[str]) -> None:
    assert check(line.split(), multirun=True) == words


def test_a_plugin_that_is_not_there_is_named() -> None:
    (said,) = check(["hydra/launcher=proces", "seed=1,2"], multirun=True)
    assert said.startswith("hydra/launcher=proces: no such plugin is installed; did you mean process?; there is basic,")


def test_a_plugin_of_others_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "plugins", lambda group: ["basic", "process"])
    (said,) = check(["hydra/launcher=joblib", "seed=1,2"], multirun=True)
    assert 'pip install "vae-lightning[cluster]" brings joblib' in said


@pytest.mark.parametrize(
    "line",
    [
        "",
        "model=conv loss.beta=4",
        "experiment=burda_2016_vae",
        "callback=ema callback.ema.decay=0.5",
        "callback=[ema,early_stopping]",
        "~logger",
        "logger=none",
        "data.limit=null ckpt=null",
        "optimizer.lr=1e-4 optimizer.betas=[0.5,0.999]",
        "trainer.devices=[0,1] trainer.devices=auto",
        "hydra.run.dir=/tmp/x hydra/job_logging=stdout",
        "likelihood=normal data.binarize=none likelihood.scale=learned",
    ],
)
def test_good_commands(line: str) -> None:
    assert check(line.split()) == []


@pytest.mark.parametrize("option", options())
def test_every_option_composes_and_writes_down_every_knob(option: str) -> None:
    config, choices = compose([option, *COMPANIONS.get(option, [])])
    assert problems(config, choices) == {}
    for path, node in nodes(config):
        target = read(node["_target_"])
        knobs = set(target.parameters) - target.facts
        assert knobs <= set(node), f"{path} leaves {knobs - set(node)} unsaid"


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_option_says_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert any(line.startswith("# ") and line.endswith(".") for line in lines[:4])


LIGHT = [["vae_lightning", *words] for words in (["--help"], ["--cfg", "job"], ["loss.bta=4", "model=cnov"])]
COMMANDS = sorted({path.stem for path in CONF.glob("*.yaml")} - {"config", "command"})
LIGHT += [[f"vae_lightning.{name}", "--help"] for name in COMMANDS]


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_nothing_heavy_is_imported(words: list[str], tmp_path: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = {words}
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit:
    pass
heavy = {{"torch", "lightning", "torchvision", "sklearn", "matplotlib", "numpy", "gradio"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "words"), [("config", ["model=conv"]), ("config", ["--resolve"]), ("report", [])])
def test_help_is_that_of_hydra(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "elbow.yaml").touch()
    monkeypatch.setattr(sys, "argv", ["vae_lightning", "--help", f"--config-dir={tmp_path}", *words])
    theirs = hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(lambda _: None)
    said = []
    for each in (theirs, partial(run, name, lambda _: None)):
        with pytest.raises(SystemExit, match="0"):
            each()
        said.append(capsys.readouterr().out)
    ours = said[1]
    assert ours == said[0]
    assert ("elbow" in ours) == (name == "config")


def test_help_of_what_cannot_be_composed_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["vae_lightning", "--help", "loss.bta=4"])
    with pytest.raises(SystemExit) as end:
        run("config", lambda _: None)
    assert end.value.code == 2
    assert "loss.bta" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "line", "said"),
    [
        ("evaluate", "", "run: say run=…: a text, or a list of at least one item, each a text"),
        ("evaluate", "nowhere", "nowhere: there is no such file or folder"),
        ("evaluate", "run=x metric=liklihood", "metric=liklihood: no such option; did you mean likelihood?"),
        ("evaluate", "run=x samples=0", "samples: must be a whole number >= 1, not 0"),
        (
            "evaluate",
            "run=x -m",
            "-m: vae_lightning.evaluate trains nothing and has no sweeps",
        ),
        ("generate", "run=x sampler=mixtur", "sampler=mixtur: no such option; did you mean mixture?"),
        ("generate", "run=x what=sample", "what=sample: no such option; did you mean samples?"),
        ("report", "", "runs: say runs=…"),
        ("export", "run=x push=3", "push: must be a text, or null, not 3"),
        ("explore", "run=x port=no", "port: must be a whole number >= 1, or null, not 'no'"),
    ],
)
def test_mistakes_of_other_commands(
    command: str, line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [command, *line.split()])
    with pytest.raises(SystemExit) as end:
        start(command, "runs" if command == "report" else "run")
    assert end.value.code == 2
    assert f"vae_lightning.{command}: one problem, nothing was run\n  {said}" in capsys.readouterr().err


# Those that `check` finds are seen there, and as commands where there is time.
ROWS = [
    pytest.param(module, line, words, marks=marks, id=f"{module or 'train'} {line}"[:60])
    for rows, marks in ((OTHERS, ()), (BAD[::10], ()), (BAD, pytest.mark.long))
    for module, line, words in (row if len(row) == 3 else ("", *row) for row in rows)
]


@pytest.mark.parametrize(("module", "line", "words"), ROWS)
def test_a_mistake_costs_two_and_leaves_nothing(
    module: str, line: str | list[str], words: list[str], tmp_path: Path
) -> None:
    program = f"vae_lightning.{module}".rstrip(".")
    done = forked.run([sys.executable, "-m", program, *arguments(line)], tmp_path, forked.environment(), 60)
    head, *said = done.stderr.splitlines()
    count = "one problem" if len(words) == 1 else f"{len(words)} problems"
    assert head == f"{program}: {count}, nothing was run"
    assert sorted(said) == sorted(f"  {visible(text)}" for text in words)
    assert max(map(len, said)) < 2100
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])


def test_what_only_the_networks_know_costs_two_and_leaves_nothing(tmp_path: Path) -> None:
    done = command("data=digits", "data.source.size=8", "model=dcgan", cwd=tmp_path)
    assert done.returncode == 2
    assert "need images of at least 16x16 pixels, these have 8x8" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_folder_cannot_bring_settings_of_hydra(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    saved = ["loss.beta=2", "seed=3", "hydra.searchpath=[file:///evil]", "hydra/launcher=evil", "--multirun"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text("".join(f"- {line}\n" for line in saved))
    with zipfile.ZipFile(tmp_path / "last.ckpt", "w"):
        pass  # what is in it is not asked for yet
    found = expand([f"ckpt={tmp_path}", "seed=4"])
    assert found == ["loss.beta=2", f"ckpt='{tmp_path}/last.ckpt'", "seed=4", f"hydra.run.dir='{tmp_path}'"]


@pytest.mark.parametrize(
    "text", ["it's", "a,b=[c]", r"a\b", r"a\\b", "end\\", r"x\'y", '{"a": "it\'s \\"q\\""}', " é ", ""]
)
def test_a_quoted_text_is_that_text(text: str) -> None:
    config, _ = compose([f"ckpt={quoted(text)}"])
    assert config.ckpt == text


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    done = command("ckpt=nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ckpt=nowhere: there is no such file or folder" in done.stderr
    (tmp_path / "empty").mkdir()
    done = command("ckpt=empty", cwd=tmp_path)
    assert "empty: no checkpoint in it; empty/checkpoints/last.ckpt was expected" in done.stderr
