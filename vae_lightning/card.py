"""Recordings of a CUDA GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from vae_lightning import noise

if TYPE_CHECKING:
    from vae_lightning.data.loader import Minibatch
    from vae_lightning.lit import LitVAE

T = TypeVar("T")


class OnCard:
    """`torch.cuda.CUDAGraph`, all on one stream and in one pool of memory.

    The random numbers of a card are numbered, and a recording cannot go back to the start of a stream at each of its
    minibatches. So here all minibatches of a run share a stream, in which each one has a place for as many numbers as
    the first one draws.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.generator = torch.cuda.default_generators[device.index or 0]
        self.draws = 0  # numbers of a minibatch

    def prepare(self, work: Callable[[], object]) -> None:
        """Do `work` as it is done for each minibatch, to learn how many numbers that draws."""
        self.generator.manual_seed(0)
        self.warm_up(work)
        self.draws = self.generator.get_offset()
        self.generator.manual_seed(0)

    def draw(self, lit: LitVAE, batch: Minibatch) -> None:
        """Go to the random numbers of a minibatch; those that are recorded one after the other are there already.

        Raises:
            RuntimeError: the minibatch before has drawn more numbers than the first.
        """
        if torch.cuda.is_current_stream_capturing():
            return
        seed, place = noise.key(lit.seed, noise.TRAIN, 0, lit.global_rank), batch.number * self.draws
        if self.generator.initial_seed() == seed and self.generator.get_offset() > place:
            raise RuntimeError(
                f"the minibatches before number {batch.number} have drawn more numbers than the first one"
            )
        torch.default_generator.manual_seed(noise.key(lit.seed, noise.TRAIN, batch.number, lit.global_rank))
        self.generator.manual_seed(seed)
        self.generator.set_offset(place)

    def warm_up(self, work: Callable[[], T]) -> T:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            result = work()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                result = work()
        except Exception:
            # After a failure the random numbers and the pool still believe to be recorded: the former until a recording
            # ends well.
            with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self.stream):
                torch.zeros(1, device=self.device)
            self.pool = torch.cuda.graph_pool_handle()
            torch.cuda.set_stream(current)
            raise
        return result, graph.replay


class Reading:
    """Numbers on their way from a card to the processor, which goes on meanwhile.

    >>> Reading(torch.ones(2))()
    tensor([1., 1.])
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.event: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self.tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self.tensor.copy_(tensor, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def __call__(self) -> Tensor:
        """The numbers, as soon as they are here."""
        if self.event is not None:
            self.event.synchronize()
        return self.tensor
