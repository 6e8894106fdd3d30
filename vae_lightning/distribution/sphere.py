"""Distributions on the unit sphere of R^D. Shapes: B batch, D latent."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from scipy.special import roots_jacobi
from torch import Tensor
from torch.distributions import Beta, Distribution, constraints, register_kl
from torch.types import _size

NODES = 512  # of the quadrature: exact to float32 up to a concentration of some 10 000
PROPOSALS = 20  # of which the first that is accepted counts; one is with a probability of at least 0.657


def log_area(d: int) -> float:
    """The logarithm of the area of the unit sphere of R^d.

    >>> round(math.exp(log_area(3)) / math.pi, 6)
    4.0
    """
    return math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)


class UniformSphere(Distribution):
    """The uniform distribution on the unit sphere, event (D,)."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, like: Tensor) -> None:
        """Args: like: (D,), whose size, type and device the draws have."""
        self.like = like
        super().__init__(torch.Size(), like.shape, validate_args=False)

    def sample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, D)."""
        z = torch.randn(*sample_shape, *self.event_shape, dtype=self.like.dtype, device=self.like.device)
        return z / z.norm(dim=-1, keepdim=True)

    def log_prob(self, value: Tensor) -> Tensor:
        """In nats, shape (*batch)."""
        return value.new_full(value.shape[:-1], -log_area(self.event_shape[0]))


@cache
def _jacobi(d: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes t and weights of the integral of f(t) (1 - t^2)^((d - 3) / 2) over [-1, 1]."""
    nodes, weights = roots_jacobi(NODES, (d - 3) / 2, (d - 3) / 2)
    return torch.as_tensor(nodes, dtype=dtype, device=device), torch.as_tensor(weights, dtype=dtype, device=device)


def _log_normaliser(kappa: Tensor, d: int) -> Tensor:
    """log of the integral of exp(kappa (t - 1)) (1 - t^2)^((d - 3) / 2) over [-1, 1], shape of `kappa`."""
    nodes, weights = _jacobi(d, kappa.dtype, kappa.device)
    return (kappa.unsqueeze(-1) * (nodes - 1) + weights.log()).logsumexp(-1)


class _Cosine(torch.autograd.Function):
    """w from f(w) ~ exp(kappa w) (1 - w^2)^((d - 3) / 2), with its gradient by kappa.

    F(w; kappa) = u is kept while kappa changes: dw/dkappa = - (dF/dkappa) / f(w). Figurnov et al. (2018),
    arXiv:1805.08498, eq. 7. As df/dkappa = (t - E t) f, it is the integral of (E t - t) f(t) / f(w) from -1 to w.
    """

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, d: int) -> Tensor:
        w = _rejection(kappa, d)
        ctx.save_for_backward(kappa, w)
        ctx.d = d
        return w

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        kappa, w = ctx.saved_tensors
        with torch.enable_grad():
            k = kappa.detach().requires_grad_(True)
            (mean,) = torch.autograd.grad((_log_normaliser(k, ctx.d) + k).sum(), k)
        nodes, weights = _legendre(w.dtype, w.device)
        # Over the side of w on which E t does not lie, where nothing cancels, with its angle as variable: t = cos(a).
        angle = w.clamp(-1, 1).acos().unsqueeze(-1)
        left = w.unsqueeze(-1) < mean.unsqueeze(-1)
        low, high = torch.where(left, angle, 0.0), torch.where(left, math.pi, angle)
        a = low + (high - low) * nodes
        t, power = a.cos(), ctx.d - 2
        log_f = kappa.unsqueeze(-1) * (t - w.unsqueeze(-1)) + power * (a.sin() / angle.sin().clamp(min=1e-30)).log()
        integral = ((mean.unsqueeze(-1) - t) * log_f.exp() * weights).sum(-1) * (high - low).squeeze(-1)
        integral = torch.where(left.squeeze(-1), integral, -integral) * angle.squeeze(-1).sin()
        return (grads[0] * integral).sum_to_size(kappa.shape), None


@cache
def _legendre(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = roots_jacobi(128, 0.0, 0.0)
    nodes, weights = (nodes + 1) / 2, weights / 2
    return torch.as_tensor(nodes, dtype=dtype, device=device), torch.as_tensor(weights, dtype=dtype, device=device)


def _rejection(kappa: Tensor, d: int) -> Tensor:
    """Wood (1994), "Simulation of the von Mises Fisher distribution", 10.1080/03610919408813161, algorithm VM*.

    The number of proposals is fixed, so that the processor need not ask the device whether all draws are made. None is
    accepted with a probability below 0.343^20 = 5e-10, under which float32 cannot tell distributions apart; then the
    first counts.
    """
    b = (d - 1) / (2 * kappa + (4 * kappa.square() + (d - 1) ** 2).sqrt())
    x = (1 - b) / (1 + b)
    c = kappa * x + (d - 1) * (1 - x.square()).log()
    shape = kappa.new_full((), (d - 1) / 2)
    z = Beta(shape, shape, validate_args=False).sample(torch.Size((PROPOSALS, *kappa.shape)))
    proposal = (1 - (1 + b) * z) / (1 - (1 - b) * z)
    accepted = kappa * proposal + (d - 1) * (1 - x * proposal).log() - c >= torch.rand_like(z).log()
    return proposal.gather(0, accepted.int().argmax(0, keepdim=True)).squeeze(0)


class VonMisesFisher(Distribution):
    """f(z) ~ exp(kappa mu'z) on the unit sphere, event (D,). Davidson et al. (2018), arXiv:1804.00891, eq. 2 and 3.

    >>> q = VonMisesFisher(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([10.0]))
    >>> q.mean  # coth(10) - 1/10 in the direction mu
    tensor([[0.9000, 0.0000, 0.0000]])

    Args:
        mode: mu (B, D), of length 1.
        kappa: the concentration (B,), positive.
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, mode: Tensor, kappa: Tensor) -> None:
        self.mu, self.kappa, self.d = mode, kappa, mode.shape[-1]
        self.log_normaliser = _log_normaliser(kappa, self.d) + kappa + log_area(self.d - 1)
        super().__init__(kappa.shape, mode.shape[-1:], validate_args=False)

    @property
    def mode(self) -> Tensor:
        return self.mu

    @property
    def mean(self) -> Tensor:
        """A(kappa) mu, (B, D)."""
        return self.cosine().unsqueeze(-1) * self.mu

    def cosine(self) -> Tensor:
        """E mu'z = A(kappa) = I_{D/2}(kappa) / I_{D/2 - 1}(kappa), (B,)."""
        nodes, weights = _jacobi(self.d, self.mu.dtype, self.mu.device)
        share = (self.kappa.unsqueeze(-1) * (nodes - 1) + weights.log()).softmax(-1)
        return (share * nodes).sum(-1)

    def rsample(self, sample_shape: _size = torch.Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, B, D): around the first axis, then reflected so that this axis becomes mu."""
        shape = self._extended_shape(sample_shape)
        w: Tensor = _Cosine.apply(self.kappa.expand(shape[:-1]), self.d)
        v = torch.randn(*shape[:-1], self.d - 1, dtype=self.mu.dtype, device=self.mu.device)
        v = v / v.norm(dim=-1, keepdim=True)
        w = w.unsqueeze(-1)
        z = torch.cat([w, (1 - w.square()).clamp(min=1e-30).sqrt() * v], -1)
        axis = torch.zeros_like(self.mu)
        axis[..., 0].fill_(1.0)
        mirror = axis - self.mu
        mirror = mirror / (mirror.square().sum(-1, keepdim=True) + 1e-30).sqrt()
        return z - 2 * (z * mirror).sum(-1, keepdim=True) * mirror

    def log_prob(self, value: Tensor) -> Tensor:
        """In nats by area of the sphere, shape (*sample_shape, B)."""
        return self.kappa * (self.mu * value).sum(-1) - self.log_normaliser


@register_kl(VonMisesFisher, UniformSphere)
def _kl_von_mises_fisher_uniform(q: VonMisesFisher, p: UniformSphere) -> Tensor:
    """kappa A(kappa) - log of the normaliser + log of the area, in nats. Davidson et al. (2018), eq. 5 and 14."""
    return q.kappa * q.cosine() - q.log_normaliser + log_area(q.d)
