"""Random numbers inside of a batched computation: each job's are those that it would draw alone, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vae_lightning import noise

PLAIN = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial),
    *(torch.rand_like, torch.randn_like, torch.randint_like, torch.poisson, Tensor.bernoulli, Tensor.multinomial),
}
IN_PLACE = {
    *(Tensor.normal_, Tensor.uniform_, Tensor.exponential_, Tensor.bernoulli_, Tensor.random_),
    *(Tensor.cauchy_, Tensor.geometric_, Tensor.log_normal_),
}
MASKS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d}  # each is its input times a mask that it draws


class Draw(Protocol):
    """Where a job draws from."""

    def draw(self, call: Callable[[], Tensor]) -> Tensor:
        """What `call` gives when it draws from here."""


class Stream:
    """The random numbers of one job for one minibatch.

    Args:
        start: seeds torch's own generators, as the job alone does before each minibatch.
        device: which computes.
    """

    def __init__(self, start: Callable[[], None], device: torch.device) -> None:
        self.start, self.generators = start, noise.generators(device)
        self.states: list[Tensor] = []

    def draw(self, call: Callable[[], Tensor]) -> Tensor:
        """What `call` gives when it draws from here."""
        if self.states:
            for generator, state in zip(self.generators, self.states, strict=True):
                generator.set_state(state)
        else:
            self.start()
        drawn = call()
        self.states = [generator.get_state() for generator in self.generators]
        return drawn


class Draws(TorchFunctionMode):
    """Inside, every function that draws does it once for each job, from the job's stream.

    Functions that draw and are not known here are refused by `vmap` itself.

    Args:
        streams: of the jobs.
        index: the batched number of the job, inside of `vmap`.
    """

    def __init__(self, streams: Sequence[Draw], index: Tensor) -> None:
        super().__init__()
        self.streams, self.index = streams, index

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in MASKS:
            return self._masked(function, *args, **kwargs)
        if (function not in PLAIN and function not in IN_PLACE) or kwargs.get("generator") is not None:
            return function(*args, **kwargs)
        places = [i for i, value in enumerate(args) if isinstance(value, Tensor)]

        def call(*tensors: Tensor) -> Tensor:
            mine = list(args)
            for place, tensor in zip(places, tensors, strict=True):
                mine[place] = tensor.detach().clone() if function in IN_PLACE else tensor.detach()
            drawn: Tensor = function(*mine, **kwargs)
            return drawn

        return self._each(call, *(args[place] for place in places))

    def _masked(self, function: Any, x: Tensor, p: Any = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training:
            return x

        def call(like: Tensor, p: Any = p) -> Tensor:
            mask: Tensor = function(torch.ones_like(like), float(p), True)
            return mask

        return x * self._each(call, x, *([p] if isinstance(p, Tensor) else []))

    def _each(self, call: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        drawn: Tensor = _Each.apply(call, self.streams, self.index, *tensors)
        return drawn


class _Each(torch.autograd.Function):
    """A draw has no gradient; where a gradient through it is needed, the comparison with the job alone shows it."""

    generate_vmap_rule = False

    @staticmethod
    def forward(call: Callable[..., Tensor], streams: Sequence[Draw], index: Tensor, *tensors: Tensor) -> Tensor:
        raise NotImplementedError("there is one index for each job: it is always batched")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        (call, streams, _), tensors = inputs[:3], inputs[3:]
        drawn = []
        for j, stream in enumerate(streams):
            mine = [t if dim is None else t.select(dim, j) for t, dim in zip(tensors, dims[3:], strict=True)]
            drawn.append(stream.draw(partial(call, *mine)))
        return torch.stack(drawn), 0
