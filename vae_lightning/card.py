"""Recordings of a CUDA GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from vae_lightning import noise

if TYPE_CHECKING:
    from vae_lightning.data.loader import Minibatch
    from vae_lightning.lit import LitVAE

T = TypeVar("T")


class CardStream:
    """The random numbers that a run draws from a card in training.

    They are numbered, and a recording cannot go back to the start of a stream at each of its minibatches. So all
    minibatches of a run share a stream, in which each one has a place for as many numbers as the first one draws.

    Args:
        lit: the training module of the run.
        own: several runs are computed in turns: this one's place in its stream is kept apart from the generator.
    """

    def __init__(self, lit: LitVAE, own: bool = False) -> None:
        self.lit, self.default = lit, torch.cuda.default_generators[lit.device.index or 0]
        self.generator = self.default.clone_state() if own else self.default
        self.draws = 0  # numbers of a minibatch
        self.latest = -1  # minibatch that was started

    def learn(self, work: Callable[[], object]) -> None:
        """Do `work` as it is done for each minibatch, to learn how many numbers that draws."""
        self.generator.manual_seed(0)
        work()
        self.draws = self.generator.get_offset()
        self.generator.manual_seed(0)

    def start(self, batch: Minibatch) -> None:
        """Go to the numbers of a minibatch; one that is recorded after others is there already.

        Raises:
            RuntimeError: the minibatch before has drawn more numbers than the first.
        """
        if torch.cuda.is_current_stream_capturing():
            return
        lit = self.lit
        seed, place = noise.key(lit.seed, noise.TRAIN, 0, lit.global_rank), batch.number * self.draws
        further = batch.number > self.latest and self.generator.initial_seed() == seed  # not after a validation
        if further and self.generator.get_offset() > place:
            raise RuntimeError(
                f"the minibatches before number {batch.number} have drawn more numbers than the first one"
            )
        torch.default_generator.manual_seed(noise.key(lit.seed, noise.TRAIN, batch.number, lit.global_rank))
        self.generator.manual_seed(seed)
        self.generator.set_offset(place)
        self.latest = batch.number

    def draw(self, call: Callable[[], T]) -> T:
        """What `call` gives when it draws from here, and not from where others draw."""
        before = self.default.graphsafe_get_state()
        self.default.graphsafe_set_state(self.generator)
        try:
            return call()
        finally:
            self.default.graphsafe_set_state(before)


class OnCard:
    """`torch.cuda.CUDAGraph`, all on one stream and in one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def noise(self, lit: LitVAE, own: bool = False) -> CardStream:
        return CardStream(lit, own)

    def warm_up(self, work: Callable[[], T]) -> T:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            result = work()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], T], streams: Sequence[CardStream] = ()) -> tuple[T, Callable[[], None]]:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        for stream in streams:
            graph.register_generator_state(stream.generator)
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

    def is_here(self) -> bool:
        return self.event is None or self.event.query()

    def __call__(self) -> Tensor:
        """The numbers, as soon as they are here."""
        if self.event is not None:
            self.event.synchronize()
        return self.tensor
