"""Random numbers that depend on *where* a run is, not on how it got there.

Every minibatch starts its own stream of random numbers. A run that was stopped and resumed, or validated more often,
or given its minibatches in other portions, draws the same numbers.
"""

from __future__ import annotations

import torch

ORDER, TRAIN, VAL, TEST, PIXELS, PICTURES = range(6)  # streams


def key(seed: int, stream: int, index: int, rank: int = 0) -> int:
    """A 32-bit seed (torch's CPU generator looks at no more), distinct for all indices of one stream.

    >>> len({key(0, TRAIN, i) for i in range(10_000)})
    10000
    """
    return (index + 0x9E3779B1 * (6 * seed + stream + 1) + 0x85EBCA6B * rank) % 2**32


def generator(device: torch.device | str, seed: int, stream: int, index: int) -> torch.Generator:
    """A generator of its own, for the data."""
    return torch.Generator(device).manual_seed(key(seed, stream, index))


def generators(device: torch.device) -> list[torch.Generator]:
    """Those that `rsample` and dropout draw from when `device` computes."""
    if device.type == "cuda":
        return [torch.default_generator, torch.cuda.default_generators[device.index or 0]]
    return [torch.default_generator]


def reseed(device: torch.device, seed: int, stream: int, index: int, rank: int = 0) -> None:
    """Start the stream that `rsample` and dropout draw from on `device`; `torch.manual_seed` takes 70 times as long."""
    value = key(seed, stream, index, rank)
    for each in generators(device):
        each.manual_seed(value)
    if device.type == "mps":
        torch.mps.manual_seed(value)
