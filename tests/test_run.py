"""Whole runs, as a user starts them: what they leave, how they go on, where they stop."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch
from conftest import CHECKPOINTS, command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import vae_lightning
from vae_lightning.checkpoint import read_checkpoint
from vae_lightning.errors import UserError

REPOSITORY = Path(__file__).parents[1]
QUICK = ["data=digits", "data.limit=300", "trainer.max_epochs=2", "trainer.enable_progress_bar=false"]
KEYS = {"test", "val", "best_checkpoint", "epochs", "seconds", "images_per_second"}
KEYS |= {"parameters", "seed", "versions", "device", "data"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run with everything on."""
    cwd = tmp_path_factory.mktemp("run")
    done = command(*QUICK[:-1], "beta=warmup", cwd=cwd, anew=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("test results of the best checkpoint", "nats per image", "elbo", "epoch 2/2  val/elbo"):
        assert words in done.stdout
    assert "Warning" not in done.stdout + done.stderr
    (folder,) = (cwd / "outputs").glob("*/*")
    return folder


def tags(folder: Path) -> dict[str, list[str]]:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()
    return {"scalars": events.Tags()["scalars"], "images": events.Tags()["images"], "events": events}


def test_a_run_folder_holds_everything(run: Path) -> None:
    assert len(run.name) == len("12-00-00_000000")
    there = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and "tfevents" not in p.name}
    assert there == {
        ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "vae_lightning.log", "metrics.csv",
        *(f"checkpoints/{name}" for name in CHECKPOINTS), "results.json", "status.json",
        "figures/reconstructions.png", "figures/samples.png", "figures/spread.png", "figures/traversals.png",
        "figures/traversals.gif", "figures/interpolations.png", "figures/latents.png", "figures/rates.png",
        "figures/curves.png", "projector_config.pbtxt", "projector/latents.tsv", "projector/labels.tsv",
        "projector/sprite.png",
    }  # fmt: skip
    assert "val/elbo" in (run / "vae_lightning.log").read_text()


def test_results_are_complete_finite_and_on_one_scale(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    assert set(results) == KEYS
    test = results["test"]
    assert set(test) == set(results["val"]) == {"loss", "elbo", "distortion", "rate", "bits_per_dim"}
    assert all(math.isfinite(v) for v in test.values())
    assert test["elbo"] == pytest.approx(-test["distortion"] - test["rate"], rel=1e-5)
    assert test["bits_per_dim"] == pytest.approx(-test["elbo"] / 784 / math.log(2), rel=1e-5)
    assert results["best_checkpoint"] == "checkpoints/best.ckpt"
    assert (results["epochs"], results["seed"], results["parameters"]) == (2, 0, 652_824)
    assert results["images_per_second"] > 0
    assert results["data"]["n_train"] == 300
    assert results["versions"]["torch"] == torch.__version__


def test_the_status_says_how_it_ended(run: Path) -> None:
    known = json.loads((run / "status.json").read_text())
    assert known["state"] == "done"
    assert known["result"] == json.loads((run / "results.json").read_text())["test"]["loss"]
    assert known["overrides"] == [*QUICK[:-1], "beta=warmup"]
    assert (known["epoch"], known["epochs"]) == (2, 2)


def test_validation_results_are_those_of_the_best_checkpoint(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    with (run / "metrics.csv").open(newline="") as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert results["val"]["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_tensorboard_shows_curves_and_pictures(run: Path) -> None:
    shown = tags(run)
    for stage in ("train", "val"):
        assert {f"{stage}/{name}" for name in ("loss", "elbo", "distortion", "rate")} <= set(shown["scalars"])
    assert {"train/beta", "train/lr", "test/elbo"} <= set(shown["scalars"])
    assert set(shown["images"]) == {"reconstructions", "samples", "spread", "traversals"}
    assert [image.step for image in shown["events"].Images("samples")] == [10, 20]  # each epoch


def test_a_checkpoint_is_plain_and_loads_without_running_code(run: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    record = checkpoint["vae_lightning"]
    assert json.loads(json.dumps(record)) == record
    model = {"model": "mlp", "posterior": "normal", "prior": "normal", "likelihood": "bernoulli"}
    assert record["choices"] == {**model, "data": "digits", "loss": "elbo"}


def test_load_gives_the_model_back(run: Path) -> None:
    torch.set_default_dtype(torch.float32)
    vae = vae_lightning.load(run)
    assert not vae.training
    x = torch.rand(4, 1, 28, 28).round()
    q = vae.encode(x)
    assert (q.mean.shape, vae.decode(q.mean).mean.shape) == ((4, 20), (4, 1, 28, 28))
    assert torch.equal(vae.decode(q.mean).mean, vae.reconstruct(x))
    assert vae.sample(3).shape == (3, 1, 28, 28)
    assert vae.log_prob(x, samples=10).shape == (4,)
    assert torch.equal(vae_lightning.load(run / "checkpoints" / "best.ckpt").encode(x).mean, q.mean)


def test_the_results_are_those_of_the_best_checkpoint(run: Path) -> None:
    """By hand, from the loaded model and the test images: in expectation the same."""
    from test_data import images

    torch.set_default_dtype(torch.float32)
    x, _ = images("data.limit=300").test
    vae = vae_lightning.load(run)
    torch.manual_seed(0)
    with torch.no_grad():
        elbo = vae(x / 255, torch.zeros(len(x), 0), samples=100).log_weight().mean().item()
    assert elbo == pytest.approx(json.loads((run / "results.json").read_text())["test"]["elbo"], abs=1.0)


def test_options_that_do_not_exist_here_are_refused_not_run(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    canary = tmp_path / "canary"
    checkpoint["vae_lightning"]["config"]["model"]["_target_"] = "pathlib.Path.touch"
    checkpoint["vae_lightning"]["config"]["model"]["hidden"] = [0]
    torch.save(checkpoint, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=r"model\.hidden: must be a list"):
        vae_lightning.load(tmp_path / "bad.ckpt")
    assert not canary.exists()


def test_a_damaged_checkpoint_is_named(run: Path, tmp_path: Path) -> None:
    whole = (run / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.ckpt: damaged, or not a checkpoint"):
        vae_lightning.load(tmp_path / "half.ckpt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt: not a checkpoint of vae_lightning"):
        read_checkpoint(tmp_path / "other.ckpt")


def curves(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("test/")} for row in csv.DictReader(file)]


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    done = command(*QUICK, "loss.beta=2", cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "outputs").glob("*/*")
    done = command(f"ckpt={folder}", "trainer.max_epochs=4", cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "outputs").glob("*/*")) == [folder]
    assert "epoch 3/4" in done.stdout
    assert "epoch 2/4" not in done.stdout
    assert json.loads((folder / "results.json").read_text())["epochs"] == 4
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == CHECKPOINTS
    longer = ["loss.beta=2", "trainer.max_epochs=4", "hydra.run.dir=straight"]
    straight = command(*QUICK[:2], QUICK[3], *longer, cwd=tmp_path, anew=True)  # another hash seed
    assert straight.returncode == 0
    assert curves(tmp_path / "straight") == curves(folder)
    done = command(f"ckpt={folder}", cwd=tmp_path)
    assert done.returncode == 2
    assert "has its 4 epochs; say trainer.max_epochs=8 to train on" in done.stdout + done.stderr
    assert (folder / "results.json").exists()


def test_a_sweep_leaves_a_numbered_folder_a_job(tmp_path: Path) -> None:
    done = command(
        "-m", *QUICK[:2], QUICK[3], "trainer.max_epochs=1", "pictures=false", "loss.beta=1,4", cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (tmp_path / "outputs").glob("*/*")
    results = [json.loads((sweep / job / "results.json").read_text())["test"] for job in ("0", "1")]
    assert results[1]["loss"] == pytest.approx(results[1]["distortion"] + 4 * results[1]["rate"], rel=1e-5)
    assert results[0]["rate"] > results[1]["rate"]
    assert not (sweep / "0" / "figures").exists()


def test_an_energy_has_no_bound(tmp_path: Path) -> None:
    done = command(
        *QUICK, "likelihood=cross_entropy", "data.binarize=none", "hydra.run.dir=run", cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    test = json.loads((tmp_path / "run" / "results.json").read_text())["test"]
    assert set(test) == {"loss", "distortion", "rate"}


def test_data_that_cannot_be_had_says_what_to_type(tmp_path: Path) -> None:
    done = command("data.source.mirror=http://127.0.0.1:9", cwd=tmp_path, data=str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "say data=digits, which needs no download" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_mnist_trains(tmp_path: Path, mnist: str) -> None:
    done = command("data.limit=2000", *QUICK[2:], "hydra.run.dir=run", cwd=tmp_path, data=mnist, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["test"]["elbo"] > -300


def test_debug_finds_what_is_out_of_range(tmp_path: Path) -> None:
    done = command(*QUICK, "debug=true", "optimizer.lr=1e30", cwd=tmp_path, timeout=300)
    assert done.returncode == 1
    assert "found invalid values" in done.stdout + done.stderr


def test_a_wheel_runs_from_anywhere(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path / "wheel"), str(REPOSITORY)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").iterdir()
    target = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, capture_output=True)
    assert (target / "vae_lightning" / "conf" / "config.yaml").is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {**os.environ, "PYTHONPATH": str(target)}
    where = [sys.executable, "-c", "import vae_lightning.paths as p; print(p.CONF)"]
    found = subprocess.run(where, cwd=elsewhere, env=env, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == str(target / "vae_lightning" / "conf")
    program = [sys.executable, str(target / "bin" / "vae-lightning"), "-m", *QUICK, "hydra.sweep.dir=run"]
    done = subprocess.run(program, cwd=elsewhere, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (elsewhere / "run" / "0" / "results.json").is_file()
    (elsewhere / "mine.py").write_text("import vae_lightning\nprint(vae_lightning.load('run/0').sample(2).shape)\n")
    done = subprocess.run([sys.executable, "mine.py"], cwd=elsewhere, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "torch.Size([2, 1, 28, 28])"


def test_a_variant_is_a_file_and_a_yaml_and_no_edit(tmp_path: Path) -> None:
    """A loss from somebody else's folder, through Hydra's own --config-dir."""
    (tmp_path / "my_loss.py").write_text(
        "from torch import nn\n"
        "from vae_lightning.schema import NonNegative\n\n\n"
        "class Mine(nn.Module):\n"
        "    def __init__(self, n_train: int, price: NonNegative = 2.0) -> None:\n"
        "        super().__init__()\n"
        "        self.price = price / n_train\n\n"
        "    def forward(self, model, x, c):\n"
        "        trace = model(x, c)\n"
        "        distortion = -trace.log_likelihood().mean()\n"
        "        rate = trace.latents[0].log_ratio().mean()\n"
        "        return distortion + self.price * rate.abs(), {'distortion': distortion, 'rate': rate}\n"
    )
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: my_loss.Mine\nprice: 2.0\nbeta: 1.0\n")
    env = forked.environment(PYTHONPATH=str(tmp_path))
    start = [sys.executable, "-m", "vae_lightning", "--config-dir", "conf", "loss=mine", *QUICK, "hydra.run.dir=run"]
    wrong = forked.run([*start, "loss.price=-1"], tmp_path, env, timeout=300)
    assert wrong.returncode == 2
    assert "loss.price: must be a number >= 0, not -1" in wrong.stderr
    assert "loss.beta: no such key: my_loss.Mine has price" in wrong.stderr
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: my_loss.Mine\nprice: 2.0\n")
    done = forked.run(start, tmp_path, env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
