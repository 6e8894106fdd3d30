"""What a CUDA graph is, on a processor: recorded operations that run again in the same memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vae_lightning import noise
from vae_lightning.synchronisation import waits


class Recording(TorchDispatchMode):
    """Notes all operations with the tensors that they read and write, and takes back what they did."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Callable[[], None]] = []
        self.before: dict[int, tuple[Any, Any]] = {}
        self.made: list[torch.Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if why := waits(function, args):
            raise RuntimeError(why)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)]
        for tensor in given:
            storage = tensor.untyped_storage()
            self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        noted = tree_map(_as_it_is, (args, kwargs))
        result = function(*args, **kwargs)
        places = {tensor.untyped_storage().data_ptr() for tensor in given}
        for tensor in tree_leaves(result):
            if torch.is_tensor(tensor) and tensor.untyped_storage().data_ptr() not in places:
                self.made.append(tensor)
                self.before[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage(), None)
        if torch.Tag.inplace_view not in function.tags:
            self.operations.append(partial(_again, function, *noted, tree_map(_as_it_is, result)))
        return result

    def undo(self) -> None:
        """As on a card, where nothing was done yet: memory is as before, and new memory has any values."""
        for storage, values in self.before.values():
            if values is not None:
                storage.copy_(values)
        for tensor in self.made:
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)

    def replay(self) -> None:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            for operation in self.operations:
                operation()


def _again(function: Any, args: Any, kwargs: Any, result: Any) -> None:
    for old, new in zip(tree_leaves(result), tree_leaves(function(*args, **kwargs)), strict=True):
        if torch.is_tensor(old) and old.data_ptr() != new.data_ptr():
            old.copy_(new)


def _as_it_is(value: Any) -> Any:
    """The same memory, with the shape of now: some operations change that of a tensor."""
    return torch.ops.aten.alias.default(value) if torch.is_tensor(value) else value


class Stream:
    """Minibatches have noise of their own, as a processor has it."""

    def __init__(self, recorder: StandIn, lit: Any, own: bool) -> None:
        self.recorder, self.lit, self.own = recorder, lit, own
        self.number = 0  # of the first minibatch of what is recorded, or run
        self.state = torch.get_rng_state()

    def learn(self, work: Callable[[], object]) -> None:
        """There is nothing to learn."""

    def start(self, batch: Any) -> None:
        if self.recorder.now is None:
            self.number = batch.number
        self._note(self._start, batch.number - self.number)

    def draw(self, call: Callable[[], Any]) -> Any:
        self._note(torch.set_rng_state, self.state)
        drawn = call()
        self._note(lambda: self.state.copy_(torch.get_rng_state()))
        return drawn

    def _start(self, k: int) -> None:
        noise.reseed(self.lit.device, self.lit.seed, noise.TRAIN, self.number + k, self.lit.global_rank)
        self.state.copy_(torch.get_rng_state())

    def _note(self, work: Callable[..., Any], *args: Any) -> None:
        """Do it now, and each time that it is run."""
        work(*args)
        if self.recorder.now is not None:
            self.recorder.now.operations.append(partial(work, *args))


class StandIn:
    """A `Recorder` whose recordings are those above."""

    def __init__(self) -> None:
        self.recordings: list[Recording] = []
        self.now: Recording | None = None  # what is being recorded

    def noise(self, lit: Any, own: bool = False) -> Stream:
        return Stream(self, lit, own)

    def warm_up(self, work: Callable[[], Any]) -> Any:
        return work()

    def record(self, work: Callable[[], Any], streams: Sequence[Stream] = ()) -> tuple[Any, Callable[[], None]]:
        self.now = recording = Recording()
        state = torch.get_rng_state()
        try:
            with recording:
                result = work()
        finally:
            self.now = None
            with torch.no_grad():
                recording.undo()
            torch.set_rng_state(state)
        self.recordings.append(recording)
        return result, recording.replay
