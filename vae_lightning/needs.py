"""What several options cannot live without, in the form that `vae_lightning.check` reads: `NEEDS = {**BOUND, ...}`."""

from __future__ import annotations

from typing import Any

Needs = dict[str, tuple[list[Any], str]]

RATE: Needs = {
    "posterior:rate": (
        [True],
        "its latents have no rate to weigh: say loss=vq with a codebook, loss=ae with points",
    )
}
POINT: Needs = {
    "posterior:rate": ([False], "an autoencoder has no noise: say posterior=point or loss=elbo"),
    "posterior:space": (["real"], "an autoencoder has plain vectors: say posterior=point or loss=vq"),
}
ONE_LATENT: Needs = {"model:latents": (["one"], "it looks at one latent variable: say model=mlp or loss=elbo")}
PLAIN_DRAWS: Needs = {"posterior:strata": ([False], "it needs plain draws: say posterior=normal or loss=elbo")}
REAL_OR_SPHERE: Needs = {
    "posterior:space": (["real", "sphere"], "it compares vectors of numbers: say posterior=normal or loss=elbo")
}
FIXED_PRIOR: Needs = {
    "prior:learned": ([False], "this loss has no rate, so that a prior would never learn: say prior=normal")
}
LIKELIHOOD: Needs = {
    "likelihood:density": ([True], "an energy has no bound on log p(x): say likelihood=bernoulli or loss=elbo")
}
DENSITY: Needs = {"posterior:density": ([True], "it needs the density of each draw: say posterior=normal or loss=elbo")}
FACTORISED: Needs = {
    "posterior:factorised": ([True], "it takes q(z|x) dimension by dimension: say posterior=normal or loss=elbo")
}
BOUND: Needs = {**RATE, **LIKELIHOOD, **DENSITY}  # log-weights of each draw
PIXELS: Needs = {"data:values": (["pixels"], "it is for values in [0, 1]: say likelihood=normal")}
GREY: Needs = {
    "data.binarize": (["none"], "it is for grey pixels: say data.binarize=none or likelihood=bernoulli"),
    **PIXELS,
}
