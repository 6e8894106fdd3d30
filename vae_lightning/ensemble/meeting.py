"""Where the jobs of an ensemble meet, once a minibatch: who is computed together, and whether that is right."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from textwrap import shorten
from typing import Any, NamedTuple

from torch import Tensor

from vae_lightning.card import OnCard
from vae_lightning.data.loader import Minibatch
from vae_lightning.ensemble.ensemble import Ensemble, modules
from vae_lightning.ensemble.proof import Found, after, alone, difference, obstacle
from vae_lightning.ensemble.recorded import Launch, Plan, RecordedEnsemble
from vae_lightning.ensemble.recorded import obstacle as obstacle_to_recording
from vae_lightning.ensemble.spread import differing
from vae_lightning.ensemble.turns import Alone
from vae_lightning.errors import first_line
from vae_lightning.graph import Noise, kind, warm
from vae_lightning.lit import LitVAE

log = logging.getLogger("vae_lightning")


class Asked(NamedTuple):
    """A job wants its gradient for a minibatch."""

    lit: LitVAE
    batch: Minibatch


class Leave(NamedTuple):
    """The answer to a job that is to compute for itself from now on."""

    reason: str | None


class Meeting:
    """Answers each job with the loss and its terms, having added the gradient to its parameters'.

    The first minibatch of a job is computed alone too. Where the two do not agree, it is sent away, with the reason.
    """

    def __init__(self) -> None:
        self.kinds: dict[int, Hashable] = {}  # of each job that was here
        self.ensembles: dict[tuple[int, ...], Ensemble] = {}
        self.noise: dict[int, Noise] = {}  # of each job, on a GPU
        self.recorder: OnCard | None = None
        self.seen: dict[tuple[int, ...], Counter[Hashable]] = {}  # minibatches of each kind
        self.recorded: dict[tuple[int, ...], RecordedEnsemble | None] = {}  # None: it cannot be

    def __call__(self, asked: Mapping[int, Any]) -> dict[int, Any]:
        """Jobs ask for `Asked`; where steps are recorded, first for a `Plan`, and if that is granted its `Launch`."""
        launches = {n: one for n, one in asked.items() if isinstance(one, Launch)}
        plans = {n: one for n, one in asked.items() if isinstance(one, Plan)}
        answers: dict[int, Any] = {}
        for _, members in _grouped(plans, lambda n: (self.kinds.get(n), tuple(map(kind, plans[n].batches)))):
            answers |= dict.fromkeys(members, self._granted({n: plans[n] for n in members}, len(plans) == len(asked)))
        for numbers in {self._all(n) for n in launches}:
            recorded = self.recorded[numbers]
            assert recorded is not None
            names, values = recorded.run([launches[n] for n in numbers])
            answers |= {n: (names, values[..., j]) for j, n in enumerate(numbers)}
        return answers | self._gradients({n: one for n, one in asked.items() if n not in answers})

    def _all(self, number: int) -> tuple[int, ...]:
        return next(numbers for numbers in self.ensembles if number in numbers)

    def _granted(self, plans: dict[int, Plan], everybody: bool) -> bool:
        """Whether all of an ensemble want to take the same steps, which have been recorded, or now are."""
        numbers = tuple(plans)
        ensemble, lit = self.ensembles.get(numbers), next(iter(plans.values())).lit
        if not everybody or ensemble is None or not ensemble.whole():
            return False
        why = obstacle_to_recording(list(plans.values()))
        if numbers not in self.recorded:
            self.recorded[numbers] = None if why else RecordedEnsemble(ensemble, self._recorder(lit))
            if why:
                log.warning("accelerator.graph=true: %s; going on without", why)
        recorded, first = self.recorded[numbers], next(iter(plans.values()))
        if recorded is None or why:
            return False
        if recorded.knows(first):
            return True
        if not warm(self.seen.get(numbers, Counter()), map(kind, first.batches)):
            return False
        try:
            recorded.record(list(plans.values()))
        except Exception as error:
            log.warning("accelerator.graph=true: the steps cannot be recorded (%s); going on without", _words(error))
            self.recorded[numbers] = None
        return self.recorded[numbers] is not None

    def _recorder(self, lit: LitVAE) -> OnCard:
        self.recorder = self.recorder or OnCard(lit.device)
        return self.recorder

    def _noise(self, number: int, lit: LitVAE) -> Noise | None:
        """Where a job draws from, if it is on a GPU."""
        if lit.device.type == "cuda" or lit.step.behind:
            step: Any = lit.step
            step.noise = self.noise[number] = self._recorder(lit).noise(lit, own=True)
        return self.noise.get(number)

    def _gradients(self, asked: Mapping[int, Asked]) -> dict[int, Any]:
        new = {number for number in asked if number not in self.kinds}
        self.kinds |= {number: _kind(asked[number].lit) for number in new}
        answers: dict[int, Any] = {n: Alone(why) for n in new if (why := obstacle(asked[n].lit))}
        rest = [number for number in asked if number not in answers]
        for _, every in _grouped(rest, self.kinds.__getitem__):
            for (_, first), members in _grouped(every, lambda n: (asked[n].batch.x.shape, n in new)):
                here = {n: asked[n] for n in members}
                if first:
                    answers |= self._first(here)
                elif len(every) == 1:
                    answers |= dict.fromkeys(members, Leave(None))
                else:
                    answers |= self._next(here)
        return answers

    def _next(self, asked: dict[int, Asked]) -> dict[int, Any]:
        if len(asked) == 1:
            return dict.fromkeys(asked)  # it computes for itself
        self.seen.setdefault(tuple(asked), Counter()).update({kind(one.batch) for one in asked.values()})
        try:
            return self._together(asked)
        except Exception as error:
            return dict.fromkeys(asked, Leave(_words(error)))

    def _first(self, asked: dict[int, Asked], same: str = "networks of the same shapes") -> dict[int, Any]:
        """Compute it alone and together. Where that does not go, with those alone that have the `same` numbers too."""
        if len(asked) == 1:
            return dict.fromkeys(asked, Alone(f"no other job has {same}"))
        found: dict[int, Found] = {}
        answers: dict[int, Any] = {}
        for number, one in asked.items():
            try:
                found[number] = alone(*one, self._noise(number, one.lit))
            except Exception as error:  # its own, which it is to hear of
                answers[number] = error
        asked = {n: one for n, one in asked.items() if n in found}
        try:
            together = self._together(asked)
        except Exception as error:
            return answers | self._apart(asked, _words(error))
        for number, one in asked.items():
            why = difference(found[number], after(one.lit, together[number]), one.lit)
            answers[number] = Alone(why) if why else together[number]
        return answers

    def _apart(self, asked: dict[int, Asked], why: str) -> dict[int, Any]:
        """Those of different sizes, or at last of any different number, are of different kinds."""
        differ = differing([modules(one.lit) for one in asked.values()])
        sizes = {place: numbers for place, numbers in differ.items() if all(type(n) is int for n in numbers)}
        for numbers in (sizes, differ):
            own = dict(zip(asked, zip(*numbers.values(), strict=True), strict=True)) if numbers else {}
            if own:
                self.kinds |= {n: (self.kinds[n], values) for n, values in own.items()}
                same = f"the same {' and '.join(sorted({name for _, name in numbers}))}"
                parts = [self._first({n: asked[n] for n in members}, same) for _, members in _grouped(own, own.get)]
                return {number: answer for answers in parts for number, answer in answers.items()}
        return dict.fromkeys(asked, Alone(why))

    def _together(self, asked: dict[int, Asked]) -> dict[int, dict[str, Tensor]]:
        numbers = tuple(asked)
        ensemble = self.ensembles.get(numbers)
        if ensemble is None or not ensemble.whole():
            self.ensembles = {k: e for k, e in self.ensembles.items() if not set(k) & set(numbers)}
            self.recorded = {k: r for k, r in self.recorded.items() if k in self.ensembles}
            noise = [self.noise[n] for n in numbers] if self.noise else None
            ensemble = self.ensembles[numbers] = Ensemble([one.lit for one in asked.values()], noise)
        compute = partial(ensemble.gradient, [one.batch for one in asked.values()])
        found = compute() if self.recorder is None else self.recorder.warm_up(compute)
        return dict(zip(numbers, found, strict=True))


def _grouped(numbers: Iterable[int], key: Callable[[int], Any]) -> list[tuple[Any, list[int]]]:
    groups: dict[Any, list[int]] = {}
    for number in numbers:
        groups.setdefault(key(number), []).append(number)
    return list(groups.items())


def _kind(lit: LitVAE) -> Hashable:
    """The same for jobs whose modules are of the same classes, shapes and types."""
    tensors = [*lit.named_parameters(), *lit.named_buffers()]
    shapes = tuple((name, t.shape, t.dtype, t.device, t.requires_grad) for name, t in tensors)
    precision = lit.trainer.precision
    return precision, shapes, tuple(map(type, modules(lit)))


def _words(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {first_line(error)}", 160, placeholder=" ...")
