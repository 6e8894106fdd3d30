"""A base distribution pushed through a transformation, and the transformations that zuko does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints
from torch.types import _size

_before = {name: vars(Distribution)[name] for name in ("_validate_args", "arg_constraints")}
import zuko  # noqa: E402

for _name, _value in _before.items():  # zuko changes them for everybody
    setattr(Distribution, _name, _value)
zuko.distributions.NormalizingFlow.arg_constraints = {}  # it has none, and says so neither to validation
flows, compose = zuko.flows, zuko.transforms.ComposedTransform


class _Coupling(zuko.transforms.CouplingTransform):
    """Keeps with a mask which coordinates it chooses: to ask at each pass makes the processor wait for the device."""

    def __init__(self, meta: Callable[[Tensor], Transform], mask: Tensor) -> None:
        Transform.__init__(self)
        if not hasattr(mask, "chosen"):
            setattr(mask, "chosen", (mask.nonzero().squeeze(-1), (~mask).nonzero().squeeze(-1)))  # noqa: B010
        self.meta = meta
        self.idx_a: Tensor
        self.idx_b: Tensor
        self.idx_a, self.idx_b = getattr(mask, "chosen")  # noqa: B009  # of which the type of a tensor knows nothing


zuko.flows.coupling.CouplingTransform = _Coupling


class Pushforward(Distribution):
    """z = f(e) with e from `base`. It remembers the density of its latest draw, as inverting f may be slow.

    Rezende and Mohamed (2015), arXiv:1505.05770, eq. 5-7.

    Args:
        base: batch (B,), event (D,).
        transform: f, which zuko can also call together with its log-determinant.
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Distribution, transform: Transform) -> None:
        self.base, self.transform = base, transform
        self._latest: tuple[Tensor | None, Tensor | None] = (None, None)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def mode(self) -> Tensor:
        """Where the mode of the base goes, (B, D)."""
        return self.transform(self.base.mode)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, B, D)."""
        noise = self.base.rsample(sample_shape)
        z, log_det = self.transform.call_and_ladj(noise)  # type: ignore[attr-defined]
        self._latest = z, self.base.log_prob(noise) - log_det
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        """In nats, shape (*sample_shape, B)."""
        z, log_prob = self._latest
        if value is z and log_prob is not None:
            return log_prob
        noise = self.transform.inv(value)
        _, log_det = self.transform.call_and_ladj(noise)  # type: ignore[attr-defined]
        return self.base.log_prob(noise) - log_det


class _Vector(Transform):
    """An invertible map of vectors."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __eq__(self, other: Any) -> bool:
        return self is other

    __hash__ = Transform.__hash__


class Planar(_Vector):
    """f(e) = e + u tanh(w e + b), with u bent so that f is invertible.

    Rezende and Mohamed (2015), arXiv:1505.05770, eq. 10-12 and appendix A.1.

    Args:
        u, w: (..., D).
        b: (..., 1).
    """

    @staticmethod
    def sizes(d: int) -> list[int]:
        """Of u, w and b, for vectors of d numbers."""
        return [d, d, 1]

    def __init__(self, u: Tensor, w: Tensor, b: Tensor) -> None:
        super().__init__()
        inner = (w * u).sum(-1, keepdim=True)
        least = F.softplus(inner + 0.5413) - 1  # above -1, and 0 where w u = 0: no parameters, no change
        self.u = u + (least - inner) * w / (w.square().sum(-1, keepdim=True) + 1e-8)
        self.w, self.b = w, b

    def _call(self, x: Tensor) -> Tensor:
        return x + self.u * ((self.w * x).sum(-1, keepdim=True) + self.b).tanh()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        slope = 1 - ((self.w * x).sum(-1, keepdim=True) + self.b).tanh().square()
        return (1 + slope * (self.u * self.w).sum(-1, keepdim=True)).abs().log().squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        """w e solves a + (w u) tanh(a + b) = w y, which rises with a: bisection, and one step of Newton's method
        that carries the gradient."""
        wu, wy = (self.w * self.u).sum(-1, keepdim=True), (self.w * y).sum(-1, keepdim=True)
        with torch.no_grad():
            reach = wu.abs() + 1e-6
            low, high = wy - reach, wy + reach
            for _ in range(60):
                middle = (low + high) / 2
                above = middle + wu * (middle + self.b).tanh() > wy
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            root = (low + high) / 2
            slope = 1 + wu * (1 - (root + self.b).tanh().square())
        a = root - (root + wu * (root + self.b).tanh() - wy) / slope
        return y - self.u * (a + self.b).tanh()


class Radial(_Vector):
    """f(e) = e + beta (e - center) / (alpha + |e - center|). Rezende and Mohamed (2015), arXiv:1505.05770, eq. 14.

    Args:
        center: (..., D).
        alpha: (..., 1), its softplus is taken.
        beta: (..., 1), likewise, and alpha taken off, so that f is invertible (appendix A.2); 0 at alpha's value.
    """

    @staticmethod
    def sizes(d: int) -> list[int]:
        """Of center, alpha and beta, for vectors of d numbers."""
        return [d, 1, 1]

    def __init__(self, center: Tensor, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.center, self.alpha = center, F.softplus(alpha)
        self.beta = F.softplus(alpha + beta) - self.alpha

    def _call(self, x: Tensor) -> Tensor:
        away = x - self.center
        return x + self.beta * away / (self.alpha + _length(away))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        r = _length(x - self.center)
        h = 1 / (self.alpha + r)
        stretch, slope = 1 + self.beta * h, 1 + self.beta * self.alpha * h.square()
        return ((x.shape[-1] - 1) * stretch.log() + slope.log()).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        """The radius solves r + beta r / (alpha + r) = |y - center|: a quadratic equation."""
        away = y - self.center
        length = _length(away)
        half = (length - self.alpha - self.beta) / 2
        r = half + (half.square() + self.alpha * length).sqrt()
        return self.center + away * r / length


def _length(x: Tensor) -> Tensor:
    return (x.square().sum(-1, keepdim=True) + 1e-30).sqrt()
