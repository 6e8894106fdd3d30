"""Numbers below the range of full precision, with which a processor computes many times slower."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

EVERY = 64  # steps of the optimiser
MARGIN = 1000.0  # an average that forgets a tenth in each step loses so much in that time


def forget_traces(optimizer: Optimizer) -> None:
    """Sets to zero what is left of gradients long past, in place.

    A weight of a pixel that is nearly always black has no gradient in most minibatches. Its averages fade, and would
    then stay at the smallest of all numbers, as that times 0.9 is rounded up. The steps that are made of them are far
    below what a weight can resolve.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = torch.optim.Adam([weight])
    >>> optimizer.state[weight] = {"exp_avg": torch.tensor([1e-40, 1e-20])}
    >>> forget_traces(optimizer)
    >>> optimizer.state[weight]["exp_avg"]
    tensor([0.0000e+00, 1.0000e-20])
    """
    for state in optimizer.state.values():
        for value in state.values():
            if torch.is_tensor(value) and value.is_floating_point() and value.dim():
                torch.hardshrink(value, MARGIN * torch.finfo(value.dtype).tiny, out=value)
