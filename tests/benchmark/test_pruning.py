"""A pruned search against random search with as many epochs, on handwritten digits, for five seeds. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_search.py

The pruned search is `hydra/sweeper=optuna` as it is by default (TPE, median pruner), 20 trials. The random search draws
from the same space and trains every trial to its end, until it has used as many epochs or a part of a trial more. Both
choose by `val/elbo` of the best checkpoint; the test images are looked at afterwards.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from vae_lightning import status
from vae_lightning.compose import compose

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
TRIALS, EPOCHS, OBJECTIVE = 20, 27, "val/elbo"
SEEDS = range(5, 10)  # a warm-up of 2 epochs was tried on 0 to 4, and was better in 3; the warm-up was then made longer
FIXED = ["data=digits", "logger=none", "accelerator=cpu", "trainer.enable_progress_bar=false"]
FIXED += [f"trainer.max_epochs={EPOCHS}", f"objective={OBJECTIVE}"]
SPACE = ["optimizer.lr=tag(log,interval(1e-4,1e-1))", "model.latent_dim=int(interval(2,64))"]
SPACE += ["model.hidden=[50],[100],[200],[400]"]


class Found(NamedTuple):
    """What a search has come to."""

    trials: int
    whole: int
    epochs: int
    val: float
    test: float
    settings: str


def searched(folder: Path, seed: int, sampler: str, pruner: str, n_trials: int, budget: float) -> Found:
    """A search of at most so many trials and epochs."""
    from vae_lightning.search import method
    from vae_lightning.search.plan import Plan
    from vae_lightning.search.space import space, spelled
    from vae_lightning.search.store import Store
    from vae_lightning.search.study import Search
    from vae_lightning.search.trial import VARIABLE, Name, Pruned
    from vae_lightning.train import train

    overrides = OverridesParser.create().parse_overrides([*SPACE, *FIXED, f"seed={seed}"])
    known = space(overrides)
    judge = {
        "name": pruner,
        "startup_trials": 5,
        "warmup_epochs": method.warmup(pruner, EPOCHS),
        "keep": 0.25,
        "max_epochs": EPOCHS,
    }
    plan = Plan([OBJECTIVE], known, n_trials, sampler, seed, 5, judge)
    search = Search(Store(None, folder), "search", plan, folder, lambda params: spelled(overrides, params, known))
    epochs, trials, done = 0, 0, []
    for number, job, _ in search.jobs():
        run = folder / str(number)
        run.mkdir()
        os.environ.pop(VARIABLE, None)
        if pruner != "none":
            os.environ[VARIABLE] = str(Name(search.store.address, "search", number, judge))
        value = float("nan")
        try:
            train(*compose(job), run)
            results = json.loads((run / "results.json").read_text())
            value = results["val"]["elbo"]
            settings = " ".join(o for o in job if o.split("=")[0] in known)
            done.append((value, results["test"]["elbo"], settings))
        except Pruned:
            status.update(run, state=status.PRUNED)
        except Exception as error:  # a learning rate that is too high
            status.update(run, state=status.FAILED, reason=str(error))
        search.tell(number, value)
        trials, epochs = trials + 1, epochs + status.read(run).get("epoch", 0)
        if epochs >= budget:
            break
    return Found(trials, len(done), epochs, *max(done))


def pair(folder: str, seed: int) -> tuple[Found, Found]:
    """The pruned search and the random one."""
    torch.set_num_threads(1)
    folders = [Path(folder) / f"{name}-{seed}" for name in ("pruned", "random")]
    for path in folders:
        path.mkdir()
    pruned = searched(folders[0], seed, "tpe", "median", TRIALS, float("inf"))
    return pruned, searched(folders[1], 1000 + seed, "random", "none", 10**6, pruned.epochs)


def test_a_pruned_search_against_random_search_of_equal_compute(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(int(os.environ.get("WORKERS", "2")), mp_context=context) as pool:
        pairs = list(pool.map(pair, [str(tmp_path)] * len(SEEDS), SEEDS))
    print("\n| seed | pruned: trials (whole), epochs | val/elbo | test/elbo | "
          "random: trials, epochs | val/elbo | test/elbo |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for seed, (pruned, random) in zip(SEEDS, pairs, strict=True):
        print(f"| {seed} | {pruned.trials} ({pruned.whole}), {pruned.epochs} | {pruned.val:.2f} | {pruned.test:.2f} | "
              f"{random.trials}, {random.epochs} | {random.val:.2f} | {random.test:.2f} |")  # fmt: skip
    for seed, (pruned, random) in zip(SEEDS, pairs, strict=True):
        print(f"seed {seed}: pruned {pruned.settings}; random {random.settings}")
    better = sum(pruned.val > random.val for pruned, random in pairs)
    print(f"pruned is better in {better} of {len(SEEDS)} by val/elbo, "
          f"{sum(p.test > r.test for p, r in pairs)} by test/elbo")  # fmt: skip
    assert better >= 4
