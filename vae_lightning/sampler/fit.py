"""The training of a small model on what lies in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from vae_lightning.errors import ConfigError, NonFiniteError
from vae_lightning.progress import track
from vae_lightning.schema import Count, Positive

HELD_OUT = 0.1  # of the data, to know when to stop


class Fit:
    """Adam until the held-out data are no longer explained better; the best weights are kept.

    >>> mean = nn.Linear(1, 1, bias=False)
    >>> x = torch.full((100, 1), 3.0)
    >>> Fit(epochs=200, lr=0.1)(mean, lambda some: (mean(torch.ones_like(some)) - some).square().sum(1), x, "a mean")
    >>> mean.weight.detach().round(decimals=1)
    tensor([[3.]])

    Args:
        epochs: at most.
        batch_size: examples per step.
        lr: the learning rate.
        patience: epochs without a better value before it stops.
    """

    def __init__(self, epochs: Count = 100, batch_size: Count = 256, lr: Positive = 1e-3, patience: Count = 5) -> None:
        self.epochs, self.batch_size, self.lr, self.patience = epochs, batch_size, lr, patience

    def __call__(self, module: nn.Module, nats: Callable[[Tensor], Tensor], data: Tensor, what: str) -> None:
        """Train `module` so that `nats` is small on average.

        Args:
            module: what is trained, in place.
            nats: some of `data` to the cost of each, (B,).
            data: examples (N, ...).
            what: for the progress bar.

        Raises:
            ConfigError: fewer than ten examples.
            NonFiniteError: the cost is no longer a number.
        """
        if len(data) < 10:
            raise ConfigError(f"{what}: {len(data)} latents are too few to fit anything to")
        data = data[torch.randperm(len(data)).to(data.device)]
        held_out, train = data.tensor_split([math.ceil(HELD_OUT * len(data))])
        optimizer = torch.optim.Adam(module.parameters(), self.lr)
        best, weights, waited = math.inf, deepcopy(module.state_dict()), 0
        for _ in track(range(self.epochs), what):
            module.train()
            for batch in train[torch.randperm(len(train)).to(data.device)].split(self.batch_size):
                optimizer.zero_grad()
                nats(batch).mean().backward()
                nn.utils.clip_grad_norm_(module.parameters(), 10.0)
                optimizer.step()
            module.eval()
            with torch.no_grad():
                cost = torch.cat([nats(batch) for batch in held_out.split(self.batch_size)]).mean().item()
            if not math.isfinite(cost):
                raise NonFiniteError(f"{what}: the cost is not finite; say a smaller sampler.training.lr")
            waited = 0 if cost < best else waited + 1
            if cost < best:
                best, weights = cost, deepcopy(module.state_dict())
            if waited >= self.patience:
                break
        module.load_state_dict(weights)
        module.eval()
