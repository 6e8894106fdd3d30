"""The numbers that change from one minibatch to the next, as tensors: a recording reads them where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.optim import Optimizer

from vae_lightning.anneal import Tensors
from vae_lightning.finite import Finite

if TYPE_CHECKING:
    from vae_lightning.lit import LitVAE


class Numbers:
    """Annealed values and learning rates of a run, and whether its losses were finite.

    Module and optimiser keep their Python numbers but inside of `used`: schedulers, logs and checkpoints see no tensor.
    """

    def __init__(self, lit: LitVAE, optimizer: Optimizer) -> None:
        parameter = lit.trained[0]
        for state in optimizer.state.values():  # from a checkpoint, counts of steps may lie with the processor
            state["step"] = state["step"].to(parameter.device)
        self.on_card = parameter.device.type == "cuda"
        self.finite = Finite(parameter.device, parameter.dtype)
        self.annealed = Tensors(parameter.device, parameter.dtype)
        # torch's fused kernels read a learning rate on a card as float32.
        self.rates = Tensors(parameter.device, torch.float32 if self.on_card else torch.float64)

    def refresh(self, lit: LitVAE, optimizer: Optimizer) -> None:
        """Give the tensors the values of now."""
        for path, value in lit.annealed.items():
            self.annealed.get(path, value)
        for i, group in enumerate(optimizer.param_groups):
            self.rates.get(str(i), group["lr"])

    @contextmanager
    def used(self, lit: LitVAE, optimizer: Optimizer) -> Iterator[None]:
        """Inside, the tensors stand in the places of the numbers, and the optimiser steps only while losses are finite.

        One that is not fused makes a last step from a bad loss; no checkpoint sees it.
        """
        groups = optimizer.param_groups
        rates, fused = [group["lr"] for group in groups], all(group.get("fused") for group in groups)
        for i, group in enumerate(groups):
            group["lr"], group["capturable"] = self.rates.get(str(i), rates[i]), self.on_card
        if fused:
            optimizer.found_inf = self.finite.refused  # type: ignore[attr-defined]  # torch's way to leave a step out
        try:
            with self.annealed.used(lit, lit.annealed):
                yield
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"], group["capturable"] = rate, False
            if fused:
                del optimizer.found_inf  # type: ignore[attr-defined]
