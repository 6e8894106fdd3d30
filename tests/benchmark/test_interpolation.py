"""Interpolation and arithmetic in the latents of `experiment=tiny_softplus`, VAE against autoencoder. Run with

    python -m pytest -m benchmark -s tests/benchmark/test_interpolation.py

The vectors lie on a plane, so that every straight line and every parallelogram between them is right; what the
measures mean is said in tests/test_experiments.py. Both train for as many steps as the experiment does.

The VAE is the smoother one in `bend` and `arithmetic`, on average: with ReLU because of the autoencoders that go badly
wrong, since five ReLUs that are all on, or all off, over the data interpolate on a straight line too; with tanh, which
always bends, on nearly every seed. In `error` it is always behind, and so it often is in `truth`: the squared error
of weight 1 is a noise of 0.7, seven times that of the vectors, and the VAE leaves so much out.
"""

from __future__ import annotations

import statistics

import pytest
from test_experiments import fitted, measures

pytestmark = pytest.mark.benchmark
SEEDS, STEPS, LR = range(8), 40 * 71, 3e-3


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_interpolation_and_arithmetic(activation: str) -> None:
    found = {}
    for name, words in (("VAE", []), ("autoencoder", ["posterior=point", "loss=ae"])):
        overrides = ["experiment=tiny_softplus", f"model.activation={activation}", *words]
        each = [measures(fitted(seed, overrides, STEPS, LR)) for seed in SEEDS]
        found[name] = {key: [one[key] for one in each] for key in each[0]}
    print(f"\n| {activation}, {len(SEEDS)} seeds | VAE, mean ± std (median) | autoencoder | VAE lower in |")
    print("|---|---|---|---|")
    for key in found["VAE"]:
        columns = [v[key] for v in found.values()]
        both = [f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f} ({statistics.median(v):.4f})" for v in columns]
        lower = sum(a < b for a, b in zip(*columns, strict=True))
        print(f"| {key} | {' | '.join(both)} | {lower} |")
    for key in ("bend", "arithmetic"):
        assert statistics.mean(found["VAE"][key]) < statistics.mean(found["autoencoder"][key])
