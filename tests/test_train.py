"""Training: what changes nothing changes no bit, and what should count counts."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import lightning as L
import pytest
import torch
from conftest import CHECKPOINTS, COMPANIONS, Small, fit, options, same, weights
from lightning.pytorch.plugins.precision import Precision

from vae_lightning.anneal import Anneal
from vae_lightning.build import make
from vae_lightning.callback.progress import Progress
from vae_lightning.checkpoint import GROUPS, load
from vae_lightning.compose import compose
from vae_lightning.errors import ConfigError, NonFiniteError
from vae_lightning.logger import MetricsCSV
from vae_lightning.precision import LeanPrecision, lean
from vae_lightning.train import Run


def metrics(run: Run) -> list[dict[str, str]]:
    with (Path(run.trainer.default_root_dir) / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


DEVICES = {
    "gpu",
    "gpu_tf32",
    "gpu_bf16",
    "gpu_fp16",
    "mps",
    "ddp",
    "ddp_cpu",
    "fsdp",
}  # not on every machine; ddp_cpu: see below
DOWNLOADED = {"mnist", "fashion_mnist", "kmnist", "dsprites", "cifar10", "folder"}  # tested where they are read


@pytest.mark.parametrize(
    "option", [o for o in options() if o.split("=")[1] not in DEVICES | DOWNLOADED and "experiment" not in o]
)
def test_every_option_trains_a_step_and_every_parameter_moves(option: str, small: Small) -> None:
    dim = [] if option in ("model=hierarchical", "model=ladder") else ["model.latent_dim=4"]
    run = small(option, *COMPANIONS.get(option, []), "data.batch_size=48", "trainer.max_epochs=1", *dim)
    before = weights(run)
    fit(run)
    after = weights(run)
    for name, parameter in run.lit.named_parameters():
        assert parameter.requires_grad != torch.equal(before[name], after[name]), name
    assert math.isfinite(float(run.trainer.callback_metrics["val/loss"]))
    if option.split("=")[0] in GROUPS:
        loaded = load(run.trainer.default_root_dir)
        assert all(torch.equal(v, after[f"model.{k}"]) for k, v in loaded.state_dict().items())


@pytest.mark.parametrize("device", sorted(DEVICES - {"ddp_cpu"}))
def test_a_missing_device_is_refused_in_words(device: str, small: Small) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(ConfigError, match="accelerator="):
        small(f"accelerator={device}")


@pytest.mark.parametrize("same_as", ["trainer.minibatches_per_step=1", "trainer.minibatches_per_step=5"])
@pytest.mark.parametrize(
    "how",
    [
        ["data.binarize=dynamic"],
        ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5"],
        ["scheduler=cosine", "beta=warmup", "beta.epochs=2"],
        ["callback=ema", "callback.ema.decay=0.9", "model=dcgan", "model.channels=[4,8,8,8]"],
        ["model.dropout=0.3", "optimizer=adamax", "scheduler=plateau"],
        ["accelerator=cpu_bf16", "condition=label"],
        ["posterior=codebook", "prior=codes", "prior.kind=autoregressive", "loss=vq", "posterior.grid=[2,2]"],
    ],
    ids=lambda how: "-".join(how),
)
def test_minibatches_per_step_change_no_bit(how: list[str], same_as: str, small: Small) -> None:
    how = [*how, "data.batch_size=16", "trainer.log_every_n_steps=4"]
    one = fit(small(*how, folder="many"))
    other = fit(small(*how, same_as, folder="few"))
    assert same(weights(one), weights(other))
    assert one.trainer.global_step == other.trainer.global_step > 0
    assert metrics(one) == metrics(other)


def test_same_seed_same_weights_and_another_seed_others(small: Small) -> None:
    runs = [fit(small("data.binarize=dynamic", f"seed={s}", folder=f)) for s, f in ((3, "a"), (3, "b"), (4, "c"))]
    a, b, c = map(weights, runs)
    assert same(a, b)
    assert not same(a, c)


def test_validating_more_often_changes_no_bit(small: Small) -> None:
    often = fit(small("trainer.max_epochs=4", folder="often"))
    seldom = fit(small("trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2", folder="seldom"))
    assert same(weights(often), weights(seldom))


@pytest.mark.usefixtures("no_noise")
def test_accumulated_minibatches_are_one_large_one(small: Small) -> None:
    """96 images: six groups of 16, or three pairs; an uneven rest of 90 too."""
    for limit in (96, 90):
        limit = f"data.limit={limit}"
        large = fit(small(limit, "data.batch_size=32", folder=f"large-{limit}"))
        parts = fit(small(limit, "data.batch_size=16", "trainer.accumulate_grad_batches=2", folder=f"parts-{limit}"))
        assert large.trainer.global_step == parts.trainer.global_step
        for name, value in weights(large).items():
            torch.testing.assert_close(weights(parts)[name], value, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("no_noise")
def test_training_validation_and_test_reduce_alike(small: Small) -> None:
    """The same images under the same weights cost the same, in minibatches that do not divide them."""
    run = small(
        "optimizer.lr=1e-300", "data.batch_size=20", "data.eval_batch_size=36", "loss.beta=4", "trainer.max_epochs=1"
    )
    run.data.val = run.data.test = run.data.train
    fit(run)
    run.trainer.test(run.lit, run.data, verbose=False)
    logged = {k: float(v) for row in metrics(run) for k, v in row.items() if v}
    for name in ("loss", "elbo", "distortion", "rate", "bits_per_dim"):
        assert logged[f"train/{name}"] == pytest.approx(logged[f"val/{name}"], rel=1e-9)
        assert logged[f"val/{name}"] == pytest.approx(logged[f"test/{name}"], rel=1e-9)
    assert logged["val/elbo"] == pytest.approx(-logged["val/distortion"] - logged["val/rate"])
    assert logged["val/loss"] == pytest.approx(logged["val/distortion"] + 4 * logged["val/rate"])
    assert logged["val/bits_per_dim"] == pytest.approx(-logged["val/elbo"] / 784 / math.log(2))


@pytest.mark.parametrize(
    "how",
    [
        [],
        ["data.binarize=dynamic", "beta=cyclical", "beta.epochs=4", "scheduler=cosine"],
        ["callback=ema", "callback.ema.decay=0.9", "scheduler=step", "scheduler.every_epochs=1"],
        [
            "model=dcgan",
            "model.channels=[4,8,8,8]",
            "scheduler=plateau",
            "scheduler.patience=1",
            "callback=early_stopping",
        ],
        ["posterior=codebook", "prior=codes", "loss=vq", "posterior.grid=[2,2]"],
        ["posterior=gumbel", "prior=categorical"],
        ["loss=factor", "loss.critic_hidden=[16]"],
        ["loss=capacity", "likelihood=normal", "likelihood.scale=optimal", "data.binarize=none"],
    ],
    ids=lambda how: "-".join(how) or "plain",
)
def test_a_resumed_run_ends_bit_identical(how: list[str], small: Small, tmp_path: Path) -> None:
    how = [*how, "data.batch_size=16", "trainer.log_every_n_steps=4"]
    whole = fit(small(*how, "trainer.max_epochs=4", folder="whole"))
    # cosine's length belongs to the run: the first half is a run of four epochs that is stopped after two
    half = small(*how, "trainer.max_epochs=4", folder="half")
    half.trainer.fit_loop.max_epochs = 2
    fit(half)
    ckpt = tmp_path / "half" / "checkpoints" / "last.ckpt"
    resumed = fit(small(*how, "trainer.max_epochs=4", f"ckpt={ckpt}", folder="half"))
    assert same(weights(whole), weights(resumed))
    read = [torch.load(tmp_path / f / "checkpoints/last.ckpt", weights_only=True) for f in ("whole", "half")]
    for key in ("optimizer_states", "state_dict", "current_model_state", "averaging_state", "global_step"):
        torch.testing.assert_close(read[0].get(key), read[1].get(key), rtol=0, atol=0)
    assert read[0]["lr_schedulers"] == read[1]["lr_schedulers"]
    assert metrics(whole) == metrics(resumed)
    assert sorted(p.name for p in ckpt.parent.iterdir()) == CHECKPOINTS


def test_a_run_resumed_in_the_middle_of_an_epoch_ends_bit_identical(small: Small, tmp_path: Path) -> None:
    how = [
        "data.batch_size=8",
        "trainer.minibatches_per_step=2",
        "data.binarize=dynamic",
        "trainer.log_every_n_steps=4",
    ]

    class Stop(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == 18:  # twelve steps an epoch
                trainer.save_checkpoint(tmp_path / "half" / "middle.ckpt")
                raise KeyError("stop")

    whole = fit(small(*how, folder="whole"))
    half = small(*how, folder="half")
    half.trainer.callbacks.append(Stop())
    with pytest.raises(KeyError):
        fit(half)
    resumed = fit(small(*how, f"ckpt={tmp_path / 'half' / 'middle.ckpt'}", folder="half"))
    assert same(weights(whole), weights(resumed))
    assert metrics(whole) == metrics(resumed)


def test_a_finished_run_says_so(small: Small, tmp_path: Path) -> None:
    fit(small())
    small(f"ckpt={tmp_path / 'run'}")  # ended after its last epoch, before its results: there is something to do
    (tmp_path / "run" / "results.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"has its 2 epochs; say trainer\.max_epochs=4 to train on"):
        small(f"ckpt={tmp_path / 'run'}")


def test_ema_is_the_average_by_hand(small: Small, tmp_path: Path) -> None:
    decay, average = 0.8, []
    run = small("callback=ema", f"callback.ema.decay={decay}", "data.batch_size=16")

    class ByHand(L.Callback):
        def on_train_start(self, trainer: L.Trainer, lit: L.LightningModule) -> None:
            def update(*_: object) -> None:
                now = lit.model.infer.encoder.layers[0].weight.detach().clone()
                average.append(now if not average else decay * average[-1] + (1 - decay) * now)

            trainer.optimizers[0].register_step_post_hook(update)

    run.trainer.callbacks.append(ByHand())
    fit(run)
    assert len(average) == run.trainer.global_step == 12
    name = "model.infer.encoder.layers.0.weight"
    torch.testing.assert_close(weights(run)[name], average[-1])
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    torch.testing.assert_close(saved["state_dict"][name], average[-1])
    assert not torch.equal(saved["current_model_state"][name], average[-1])
    run.trainer.test(run.lit, run.data, ckpt_path=run.best.best_model_path, weights_only=True, verbose=False)
    best = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert same(weights(run), best)  # what is tested is the average


def test_the_gradient_is_clipped_to_its_norm(small: Small) -> None:
    norms = []
    run = small("trainer.gradient_clip_val=0.01", "data.batch_size=48")

    class Norms(L.Callback):
        def on_train_start(self, trainer: L.Trainer, lit: L.LightningModule) -> None:
            def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
                grads = [p.grad for g in optimizer.param_groups for p in g["params"]]
                norms.append(torch.nn.utils.get_total_norm(grads).item())

            trainer.optimizers[0].register_step_post_hook(look)

    run.trainer.callbacks.append(Norms())
    fit(run)
    assert norms == pytest.approx([0.01] * 4, rel=1e-3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_hooks_are_left_out_only_where_nobody_listens(precision: str) -> None:
    class Listener(L.Callback):
        def on_before_optimizer_step(self, *_: object) -> None:
            pass

    def plugin(*callbacks: L.Callback) -> Precision:
        how = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "precision": precision}
        trainer = L.Trainer(callbacks=list(callbacks), **how)
        lean(trainer)
        return trainer.precision_plugin

    assert isinstance(plugin(L.Callback()), LeanPrecision)
    assert not isinstance(plugin(Listener()), LeanPrecision)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_a_callback_that_comes_with_the_run_is_heard(
    precision: str, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    monkeypatch.setattr(Progress, "on_before_optimizer_step", lambda *_: heard.append(1))
    fit(small("data.batch_size=48", f"trainer.precision={precision}"))
    assert len(heard) == 4


def test_each_minibatch_has_noise_of_its_own(small: Small) -> None:
    run, seen = small("data.batch_size=16"), []
    forward = run.lit.loss.forward

    def listen(*args: object) -> object:
        seen.append(torch.rand(()).item())
        return forward(*args)

    run.lit.loss.forward = listen
    fit(run)
    train = [s for i, s in enumerate(seen) if i % 7 < 6]  # six minibatches, then one of validation
    assert len(set(train)) == len(train) == 12
    assert len({s for i, s in enumerate(seen) if i % 7 == 6}) == 1


def test_the_learning_rate_moves_with_each_step(small: Small) -> None:
    run = fit(small("scheduler=cosine", "data.batch_size=16", "trainer.log_every_n_steps=1"))
    rates = [float(row["train/lr"]) for row in metrics(run)]
    assert rates == pytest.approx([1e-3 * (1 + math.cos(math.pi * i / 12)) / 2 for i in range(12)])


def test_curves_that_are_taken_again_have_no_fold(tmp_path: Path) -> None:
    first = MetricsCSV(tmp_path, None)
    for step in (4, 8, 12):
        first.log_metrics({"train/loss": float(step)}, step)
    first.save()
    second = MetricsCSV(tmp_path, resumed_step=6)
    second.log_metrics({"train/loss": -8.0}, 8)
    second.save()
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["step,train/loss", "4,4.0", "8,-8.0"]


@pytest.mark.parametrize("broken", ["loss", "weights"])
def test_nothing_that_is_not_finite_is_kept(broken: str, small: Small, tmp_path: Path) -> None:
    run = small("debug=false", "data.batch_size=16", "beta=warmup", "trainer.minibatches_per_step=2")
    kept = {}

    class Break(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, lit: L.LightningModule, *_: object) -> None:
            if trainer.global_step == 8:
                kept.update(weights(run))
                if broken == "loss":
                    lit.loss.free_bits = math.inf
            if trainer.global_step == 10:
                lit.model.decoder.layers[0].weight.data[0, 0] = math.nan

    run.trainer.callbacks.append(Break())
    with pytest.raises(
        NonFiniteError,
        match=r"step 9: the loss is inf \(distortion=.* with optimizer.lr=0.001, loss.beta=0.1"
        if broken == "loss"
        else "step 11: the loss is nan",
    ):
        fit(run)
    if broken == "loss":
        assert same(kept, weights(run))
    for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        saved = torch.load(path, weights_only=True)
        assert all(v.isfinite().all() for v in saved["state_dict"].values())


def test_a_checkpoint_of_broken_weights_is_not_written(small: Small, tmp_path: Path) -> None:
    run = fit(small())
    run.lit.model.decoder.layers[0].weight.data[0, 0] = math.inf
    with pytest.raises(NonFiniteError, match=r"model\.decoder\.layers\.0\.weight is not finite after step"):
        run.trainer.save_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "bad.ckpt").exists()


@pytest.mark.parametrize(
    ("how", "epochs", "values"),
    [
        ({"epochs": 10.0}, [0.0, 2.5, 10.0, 50.0], [0.0, 1.0, 4.0, 4.0]),
        ({"epochs": 10.0, "shape": "cosine"}, [0.0, 5.0, 10.0], [0.0, 2.0, 4.0]),
        ({"epochs": 8.0, "cycles": 4, "ramp": 0.5}, [0.0, 0.5, 1.0, 1.9, 2.0, 2.5, 8.0], [0, 2, 4, 4, 0, 2, 4]),
        ({"epochs": 0.0}, [0.0, 1.0], [4.0, 4.0]),
    ],
)
def test_anneal(how: dict, epochs: list[float], values: list[float]) -> None:
    anneal = Anneal("loss.beta", 0.0, 4.0, **how)
    assert [anneal(e) for e in epochs] == pytest.approx(values)


def test_annealing_counts_minibatches_and_validation_sees_the_end(small: Small) -> None:
    run = small("beta=warmup", "beta.epochs=2", "loss.beta=3", "data.batch_size=16", "trainer.log_every_n_steps=1")
    fit(run)
    betas = [float(row["train/beta"]) for row in metrics(run)]
    assert betas == pytest.approx([3 * i / 12 for i in range(12)])
    last = metrics(run)[-1]
    assert float(last["val/loss"]) == pytest.approx(float(last["val/distortion"]) + 3 * float(last["val/rate"]))


def test_anneal_refuses_a_path_that_leads_nowhere() -> None:
    with pytest.raises(AttributeError, match="gamma"):
        Anneal("weight.gamma", 0.0, 1.0).apply(torch.nn.Linear(1, 1), 1.0)


@pytest.mark.parametrize(
    ("option", "rates"),
    [
        ("scheduler=none", [1.0] * 4),
        ("scheduler=step scheduler.every_epochs=2 scheduler.factor=0.1", [1.0, 1.0, 0.1, 0.1]),
        ("scheduler=cosine", [(1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)]),
        ("scheduler=cosine scheduler.warmup_epochs=2 scheduler.final=0.5", [1 / 7, 4 / 7, 1.0, 0.75]),
    ],
)
def test_learning_rates(option: str, rates: list[float]) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = make(compose(["optimizer.lr=1.0"])[0].optimizer, parameters=[parameter], fused=True)
    scheduler, interval = make(
        compose(option.split())[0].scheduler, optimizer=optimizer, steps_per_epoch=3, max_epochs=4
    )
    seen = []
    for step in range(12):
        if step % 3 == 0:
            seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if interval == "step" or step % 3 == 2:
            scheduler.step()
    assert seen == pytest.approx(rates)


def test_early_stopping_and_plateau_look_at_the_validation_loss(small: Small) -> None:
    run = small(
        "callback=early_stopping",
        "callback.early_stopping.patience=2",
        "callback.early_stopping.min_delta=1e9",
        "scheduler=plateau",
        "scheduler.patience=1",
        "scheduler.factor=0.1",
        "trainer.max_epochs=9",
    )
    fit(run)
    assert run.trainer.current_epoch == 3
    assert run.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3)


def test_validation_draws_the_same_noise_every_epoch(small: Small) -> None:
    run = fit(small("optimizer.lr=1e-300", "data.eval_batch_size=30", "trainer.max_epochs=3"))
    values = {row["val/loss"] for row in metrics(run) if row["val/loss"]}
    assert len(values) == 1
