"""What is not refused trains; what is refused says what to type."""

from __future__ import annotations

import itertools
import math

import pytest
from conftest import SMALL, combined, context, digits, names, parts

from vae_lightning.check import problems


def combinations() -> list[dict[str, str]]:
    flat = [
        {"posterior": q, "prior": p, "loss": loss}
        for q, p, loss in itertools.product(names("posterior"), names("prior"), names("loss"))
    ]
    deep = [
        {"model": m, "prior": p, "loss": loss}
        for m, p, loss in itertools.product(("hierarchical", "ladder"), names("prior"), names("loss"))
    ]
    hierarchical = [{"model": "hierarchical", "posterior": q, "loss": "iwae"} for q in names("posterior")]
    energies = [
        {"likelihood": lik, "loss": loss} for lik, loss in itertools.product(names("likelihood"), names("loss"))
    ]
    return [*flat, *deep, *hierarchical, *energies]


@pytest.mark.parametrize("condition", ["null", "label"])
@pytest.mark.parametrize("part", range(4))
def test_what_is_not_refused_trains_and_what_is_refused_says_what_to_type(part: int, condition: str) -> None:
    x, y = digits(6, 8)
    ran = 0
    for chosen in combinations()[part::4]:
        overrides = [f"condition={condition}", *SMALL] if "model" not in chosen else [f"condition={condition}"]
        config, choices = combined(**chosen)
        config.condition = None if condition == "null" else "label"
        if chosen.get("likelihood", "bernoulli") not in ("bernoulli", "mse", "ms_ssim"):
            config.data.binarize = "none"
        if "model" not in chosen:
            config.model.hidden, config.model.latent_dim, config.model.activation = [5], 3, "tanh"
        wrong = problems(config, choices)
        assert all(": say " in text and "does not go with" in text for text in wrong.values()), overrides
        if wrong or chosen.get("likelihood") == "ms_ssim":
            continue
        if "pseudo_inputs" in config.prior:
            config.prior.pseudo_inputs = 3
        model, loss = parts(config)
        value, _ = loss(model, x, context(config, y[:6]))
        value.backward()
        still = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert math.isfinite(value.item()), chosen
        assert not still, (chosen, still)
        ran += 1
    assert ran > 50
