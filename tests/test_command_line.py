"""Mistakes are found together, in words, before anything is loaded or written."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import hydra
import pytest
from conftest import COMPANIONS, command, names, options

from vae_lightning import command_line
from vae_lightning.check import nodes, problems, read
from vae_lightning.command import run, start
from vae_lightning.command_line import INTERVAL, check
from vae_lightning.compose import compose
from vae_lightning.override import quoted
from vae_lightning.paths import CONF
from vae_lightning.resume import expand

MODELS = ", ".join(names("model"))
EXPERIMENTS = ", ".join(names("experiment"))
BAD = [
    ("loss.bta=4", ["loss.bta=4: no such key; did you mean loss.beta?"]),
    ("+loss.bta=4", ["+loss.bta=4: no such key; did you mean loss.beta?"]),
    ("++loss.bta=4", ["++loss.bta=4: no such key; did you mean loss.beta?"]),
    ("~loss.bta", ["~loss.bta: cannot be left out; set it to what you want"]),
    ("trainer.max_epoch=3", ["trainer.max_epoch=3: no such key; did you mean trainer.max_epochs?"]),
    ("lr=0.1", ["lr=0.1: no such key; did you mean optimizer.lr?"]),
    ("latent_dim=2", ["latent_dim=2: no such key; did you mean model.latent_dim?"]),
    ("mode=conv", ["mode=conv: no such key; did you mean model?"]),
    ("foo.bar=1", ["foo.bar=1: no such key; `--help` lists all keys"]),
    ("loss.zzz=1", ["loss.zzz=1: no such key; loss has beta, samples, analytic, free_bits"]),
    ("callback.ema.decay=0.9", ["callback.ema.decay=0.9: no such key; say callback=ema first"]),
    (
        "model=con",
        [f"model=con: no such option; did you mean conv?; model is one of {MODELS}"],
    ),
    (
        "beta=4",
        ["beta=4: no such option; did you mean loss.beta=4?; beta is one of constant, cyclical, warmup"],
    ),
    ("callback=[ema,stop]", ["callback=stop: no such option; callback is one of early_stopping, ema"]),
    ("experiment=x", [f"experiment=x: no such option; experiment is one of {EXPERIMENTS}"]),
    ("loss.beta=-1", ["loss.beta: must be a number >= 0, not -1"]),
    ("loss.beta=nan", ["loss.beta: must be a number >= 0, not nan"]),
    ("loss.beta=inf", ["loss.beta: must be a number >= 0, not inf"]),
    ("loss.beta=four", ["loss.beta: must be a number >= 0, not 'four'"]),
    ("loss.analytic=1", ["loss.analytic: must be one of auto, or true or false, not 1"]),
    ("model.latent_dim=0", ["model.latent_dim: must be a whole number >= 1, not 0"]),
    ("model.latent_dim=2.5", ["model.latent_dim: must be a whole number >= 1, not 2.5"]),
    ("model.dropout=2", ["model.dropout: must be a number >= 0 and <= 1, not 2"]),
    ("model.hidden=[]", ["model.hidden: must be a list of at least one item, each a whole number >= 1, not []"]),
    ("optimizer.betas=[0.9]", ["optimizer.betas: must be a list of 2 items, each a number >= 0 and <= 1, not [0.9]"]),
    ("data.batch_size=0", ["data.batch_size: must be a whole number >= 1, not 0"]),
    ("data.limit=0", ["data.limit: must be a whole number >= 1, or null, not 0"]),
    ("data.binarize=grey", ["data.binarize: must be one of dynamic, static, threshold, none, not 'grey'"]),
    ("accelerator.graph=maybe", ["accelerator.graph: must be true or false, not 'maybe'"]),
    ("seed=-1", ["seed: must be a whole number >= 0, not -1"]),
    ("condition=labels", ["condition: must be one of label, or null, not 'labels'"]),
    (
        "likelihood=normal",
        [
            "likelihood: normal does not go with data.binarize=dynamic: a normal density is for grey pixels: "
            "say data.binarize=none or likelihood=bernoulli"
        ],
    ),
    (
        "data.binarize=none",
        [
            "likelihood: bernoulli does not go with data.binarize=none: a Bernoulli gives grey pixels no density: "
            "say data.binarize=dynamic or likelihood=cross_entropy"
        ],
    ),
    (
        "likelihood=cross_entropy",
        [
            "likelihood: cross_entropy does not go with data.binarize=dynamic: on binary pixels it is the Bernoulli "
            "likelihood: say likelihood=bernoulli or data.binarize=none"
        ],
    ),
    (
        "model=mlp,conv",
        ["model=mlp,conv: several values are a sweep: add -m, or quote the value to mean one"],
    ),
    ("model._target_=os.system", ["model._target_=os.system: a _target_ comes from conf/, not from the command line"]),
    (
        "+model={_target_:os.system}",
        ["+model={_target_:os.system}: a _target_ comes from conf/, not from the command line"],
    ),
    (
        "callback=ema callback.ema={_target_:subprocess.run}",
        ["callback.ema={_target_:subprocess.run}: a _target_ comes from conf/, not from the command line"],
    ),
    (
        "posterior=gumbel",
        [
            "posterior: gumbel does not go with prior=normal: its latents are one-hot vectors: say prior=categorical",
        ],
    ),
    (
        "loss=iwae posterior=gumbel prior=categorical",
        [
            "loss: iwae does not go with posterior=gumbel: it needs the density of each draw: "
            "say posterior=normal or loss=elbo"
        ],
    ),
    (
        "loss=iwae likelihood=mse",
        [
            "loss: iwae does not go with likelihood=mse: an energy has no bound on log p(x): "
            "say likelihood=bernoulli or loss=elbo"
        ],
    ),
    (
        "prior=conditional",
        [
            "prior: conditional does not go with condition=null: it is a distribution for each label: "
            "say condition=label or prior=normal"
        ],
    ),
    (
        "posterior=mixture loss=iwae loss.estimator=dreg",
        [
            "posterior: mixture does not go with loss.estimator=dreg: "
            "its weights have no doubly reparametrised gradient: say loss.estimator=stl"
        ],
    ),
    (
        "model=ladder loss=tc",
        ["loss: tc does not go with model=ladder: it looks at one latent variable: say model=mlp or loss=elbo"],
    ),
    (
        "loss=wae_mmd prior=vamp",
        [
            "loss: wae_mmd does not go with prior=vamp: this loss has no rate, so that a prior would never learn: "
            "say prior=normal"
        ],
    ),
    (
        "data=vectors",
        ["likelihood: bernoulli does not go with data=vectors: it is for values in [0, 1]: say likelihood=normal"],
    ),
    ("loss=iwae beta=warmup", ["beta.end: leads to loss.beta, which loss=iwae does not have"]),
    ("~model", ["~model: cannot be left out; set it to what you want"]),
    ("foo", ["foo: not of the form key=value (missing EQUAL at '<EOF>')"]),
    ("data.root=${nope}", ["data.root: Interpolation key 'nope' not found"]),
    (
        "experiment=burda_2016_vae model=conv",
        [
            "model.hidden: no such key: vae_lightning.model.conv.conv has activation, channels, kernel_size, "
            "latent_dim, negative_slope, norm, strides"
        ],
    ),
    (
        "loss.bta=4 model=con seed=-1 data.batch_size=0",
        [
            f"model=con: no such option; did you mean conv?; model is one of {MODELS}",
            "data.batch_size: must be a whole number >= 1, not 0",
            "seed: must be a whole number >= 0, not -1",
            "loss.bta=4: no such key; did you mean loss.beta?",
        ],
    ),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line for line, _ in BAD])
def test_bad_commands(line: str, words: list[str]) -> None:
    assert sorted(check(line.split())) == sorted(words)


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


def test_a_mistake_costs_two_and_leaves_nothing(tmp_path: Path) -> None:
    done = command("loss.bta=4", "data.batch_size=0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "vae_lightning: 2 problems, nothing was run\n"
        "  loss.bta=4: no such key; did you mean loss.beta?\n"
        "  data.batch_size: must be a whole number >= 1, not 0\n"
    )
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_what_only_the_networks_know_costs_two_and_leaves_nothing(tmp_path: Path) -> None:
    done = command("data=digits", "data.source.size=8", "model=dcgan", cwd=tmp_path)
    assert done.returncode == 2
    assert "need images of at least 16x16 pixels, these have 8x8" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list((tmp_path / "outputs").rglob("*.*"))


def test_a_run_folder_cannot_bring_settings_of_hydra(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    saved = ["loss.beta=2", "seed=3", "hydra.searchpath=[file:///evil]", "hydra/launcher=evil", "--multirun"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text("".join(f"- {line}\n" for line in saved))
    (tmp_path / "last.ckpt").write_bytes(b"")
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
    assert "empty: no checkpoint in it. empty/checkpoints/last.ckpt: there is none" in done.stderr
