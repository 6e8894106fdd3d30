"""What losses are made of, against values computed in another way."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from conftest import composed, ready
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from vae_lightning.build import make
from vae_lightning.loss.dip import covariance
from vae_lightning.loss.factor import exchange
from vae_lightning.loss.mmd import mmd
from vae_lightning.loss.rae import largest_singular_value
from vae_lightning.loss.sliced_wasserstein import sliced
from vae_lightning.loss.tc import decompose, log_importance
from vae_lightning.trace import Latent


def correlated(n: int, tc: float = 0.8, noise: float = 0.3) -> tuple[Latent, Tensor]:
    """Posteriors N(m, noise^2) in two dimensions whose aggregate is nearly a normal distribution with this TC."""
    rho = math.sqrt(1 - math.exp(-2 * tc))
    cov = torch.tensor([[1.0, rho], [rho, 1.0]])
    mean = MultivariateNormal(torch.zeros(2), cov - noise**2 * torch.eye(2)).sample((n,))
    mean = (mean - mean.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(mean.T.cov(correction=0))).T
    mean = mean @ torch.linalg.cholesky(cov - noise**2 * torch.eye(2)).T
    q = Independent(Normal(mean, torch.full_like(mean, noise)), 1)
    p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    return Latent(q, p, q.rsample((1,)), lambda: q), cov


@pytest.mark.parametrize("weighting", ["stratified", "weighted"])
def test_the_three_parts_of_the_rate_have_their_exact_values(weighting: str) -> None:
    """With all images in one minibatch, on a correlated normal aggregate whose TC is 0.80 nats."""
    n, noise = 1500, 0.3
    latent, cov = correlated(n, noise=noise)
    information, correlation, dimensions = decompose(latent, n, weighting)
    shift = math.log(n) if weighting == "weighted" else 0.0  # its weights sum to 1 / N in place of 1
    exact = (torch.linalg.det(cov) / noise**4).log().item() / 2
    assert information.item() == pytest.approx(exact + shift, abs=0.1)
    assert correlation.item() == pytest.approx(0.8 + shift, abs=0.1)
    assert dimensions.item() == pytest.approx(0.0 - 2 * shift, abs=0.1)
    rate = latent.log_ratio().mean()
    torch.testing.assert_close(information + correlation + dimensions, rate)


@pytest.mark.parametrize("weighting", ["stratified", "weighted"])
def test_total_correlation_is_what_its_definition_gives_by_hand(weighting: str) -> None:
    """Chen et al. (2018), appendix C, image by image, in a minibatch of 20 out of 1000."""
    b, n = 20, 1000
    latent, _ = correlated(b)
    z, q = latent.z[0], latent.q.base_dist
    total = 0.0
    for i in range(b):
        others = [(i + 1 + k) % b for k in range(b - 1)]
        weights = {i: 1 / n, others[0]: (n - (b - 1)) / (n * (b - 1)), **dict.fromkeys(others[1:], 1 / (b - 1))}
        if weighting == "weighted":
            weights = dict.fromkeys(range(b), 1 / (n * b))
        joint, marginals = 0.0, [0.0, 0.0]
        for j, weight in weights.items():
            density = [Normal(q.loc[j, d], q.scale[j, d]).log_prob(z[i, d]).exp().item() for d in range(2)]
            joint += weight * density[0] * density[1]
            marginals = [m + weight * p for m, p in zip(marginals, density, strict=True)]
        total += math.log(joint) - sum(map(math.log, marginals))
    assert decompose(latent, n, weighting)[1].item() == pytest.approx(total / b, abs=1e-9)


def test_stratified_weights_sum_to_one_with_the_own_image_on_the_diagonal() -> None:
    weights = log_importance(6, 100, "stratified", torch.zeros(())).exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(6))
    torch.testing.assert_close(weights.diagonal(), torch.full((6,), 0.01))


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_dip_takes_the_covariance_of_means_or_of_draws(kind: str) -> None:
    latent, _ = correlated(400)
    mean = latent.q.mean
    if kind == "i":
        torch.testing.assert_close(covariance(latent, "i"), torch.cov(mean.T, correction=0))
    else:
        draws = latent.q.sample((4000,)).flatten(0, 1)
        torch.testing.assert_close(covariance(latent, "ii"), torch.cov(draws.T, correction=0), atol=5e-3, rtol=0)
    function = make(composed("loss=dip", f"loss.kind={kind}", "loss.diagonal=3", "loss.off_diagonal=5")[0].loss)
    cov = covariance(latent, kind)
    by_hand = sum(
        (3 * (cov[i, j] - 1) ** 2 if i == j else 5 * cov[i, j] ** 2).item() for i in range(2) for j in range(2)
    )
    likelihood = Independent(Normal(torch.zeros(1, 400, 1), 1.0), 1)
    trace = SimpleNamespace(latents=(latent,), expect=lambda v: v, log_likelihood=lambda: likelihood.mean.sum(-1),
                            rate=lambda analytic: torch.zeros(400))  # fmt: skip
    assert function(lambda x, c: trace, None, None)[0].item() == pytest.approx(by_hand)


@pytest.mark.parametrize("kind", ["rbf", "imq"])
def test_mmd_is_that_of_pairs_by_hand(kind: str) -> None:
    a, b = torch.randn(7, 3), torch.randn(7, 3) + 1

    def k(u: Tensor, v: Tensor) -> float:
        squares = float(((u - v) ** 2).sum())
        if kind == "rbf":
            return math.exp(-squares / 6)
        return sum(6 * s / (6 * s + squares) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = sum(k(x[i], x[j]) for x in (a, b) for i, j in pairs if i != j) / 42
    across = sum(k(a[i], b[j]) for i, j in pairs) / 49
    assert mmd(a, b, kind).item() == pytest.approx(within - 2 * across)
    same = torch.stack([mmd(torch.randn(20, 3), torch.randn(20, 3), kind) for _ in range(300)])
    assert abs(same.mean()) < 5 * same.std() / math.sqrt(300)  # unbiased: 0 for equal distributions


def test_the_sliced_distance_is_that_of_the_best_matching() -> None:
    from scipy.optimize import linear_sum_assignment

    a, b, directions = torch.randn(8, 3), torch.randn(8, 3) + 1, torch.randn(5, 3)
    directions = directions / directions.norm(dim=1, keepdim=True)
    costs = []
    for direction in directions:
        squares = ((a @ direction)[:, None] - (b @ direction)[None, :]) ** 2
        costs.append(squares[linear_sum_assignment(squares.numpy())].mean())
    torch.testing.assert_close(sliced(a, b, directions), torch.stack(costs).mean())


def test_exchanged_coordinates_keep_their_marginals_and_lose_their_correlation() -> None:
    z = correlated(5000)[0].z[0]
    other = exchange(z)
    torch.testing.assert_close(other.sort(0).values, z.sort(0).values)
    assert abs(torch.corrcoef(other.T)[0, 1]) < 0.06 < torch.corrcoef(z.T)[0, 1]


def test_a_trained_critic_estimates_the_total_correlation() -> None:
    """Kim and Mnih (2018), eq. 3: the logit is the log-ratio, on an aggregate whose TC is 0.80."""
    function = make(composed("loss=factor", "loss.critic_hidden=[64,64]")[0].loss, latent_shape=(2,)).double()
    latent, _ = correlated(4000)
    optimizer, trace = torch.optim.Adam(function.critic.parameters(), 3e-3), None
    estimate = []
    for step in range(400):
        z = latent.q.sample()[torch.randint(4000, (512,))]
        trace = SimpleNamespace(latents=(SimpleNamespace(z=z.unsqueeze(0), q=latent.q),), rate=lambda a: torch.zeros(1),
                                expect=lambda v: v, log_likelihood=lambda: torch.zeros(1))  # fmt: skip
        _, terms = function(lambda x, c, trace=trace: trace, None, None)
        optimizer.zero_grad()
        terms["critic"].backward()
        optimizer.step()
        if step >= 300:
            estimate.append(terms["total_correlation"].item())
    assert sum(estimate) / len(estimate) == pytest.approx(0.8, abs=0.2)


def test_the_largest_singular_value() -> None:
    matrix = torch.randn(30, 20)
    exact = torch.linalg.matrix_norm(matrix, 2)
    assert largest_singular_value(matrix, 200).item() == pytest.approx(exact.item(), rel=1e-6)


def test_spectral_norm_keeps_every_layer_of_the_decoder_at_one_or_less() -> None:
    model, function, x, c = ready("loss=rae", "loss.regularizer=spectral_norm", "loss.iterations=100")
    layers = [p for p in model.decoder.parameters() if p.dim() > 1]
    with torch.no_grad():
        for parameter, norm in zip(layers, (1.5, 0.5), strict=True):
            parameter.mul_(norm / torch.linalg.matrix_norm(parameter, 2))
    function(model, x, c)
    norms = [torch.linalg.matrix_norm(p.detach(), 2).item() for p in layers]
    assert norms == pytest.approx([1.0, 0.5], abs=1e-3)


def test_the_gradient_penalty_is_the_squared_jacobian() -> None:
    model, function, x, c = ready("loss=rae", "loss.regularizer=gradient_penalty", "model=linear",
                                  "likelihood=mse")  # fmt: skip
    found = torch.stack([function(model, x, c)[1]["penalty"].detach() for _ in range(200)])
    exact = model.decoder.layers[0].weight.square().sum()
    assert abs(found.mean() - exact) < 5 * found.std() / math.sqrt(200)


def test_capacity_leads_the_rate_there() -> None:
    model, function, x, c = ready("loss=capacity", "loss.capacity=5", "loss.gamma=10")
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        value, terms = function(model, x, c)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert terms["rate"].item() == pytest.approx(5, abs=0.5)


def test_m2_marginalises_the_label() -> None:
    """Without a label it bounds log of the sum over labels; with one, it adds the classifier's cross-entropy."""
    model, function, x, c = ready("loss=m2")
    x = x[:5]
    with torch.no_grad():
        torch.manual_seed(2)
        loss, terms = function(model, x, torch.zeros(5, 10))
        torch.manual_seed(2)
        trace = model(x.repeat(10, 1, 1, 1), torch.eye(10).repeat_interleave(5, 0), 1)
        costs = (trace.rate() - trace.log_likelihood()[0]).view(10, 5).T + math.log(10)
        q = function.classifier(x, torch.zeros(5, 0)).softmax(-1)
        by_hand = (q * costs).sum(1) + (q * q.log()).sum(1)
        torch.testing.assert_close(loss, by_hand.mean())
        torch.testing.assert_close(terms["distortion"] + terms["rate"], loss)
        assert loss >= -(-costs).logsumexp(1).mean()  # the best q is the softmax of the costs
        torch.manual_seed(2)
        labelled, _ = function(model, x, c[:5])
        known = (c[:5] * (costs - function.weight * q.log())).sum(1)
        torch.testing.assert_close(labelled, known.mean())


def test_vq_costs_codebook_and_commitment() -> None:
    """van den Oord et al. (2017), eq. 3, by hand; the gradient of the distortion passes straight through."""
    model, function, x, c = ready("loss=vq", "posterior.ema=0", "posterior.codes=5", "posterior.grid=[2,2]")
    model.eval()
    loss, terms = function(model, x, c)
    encoding = model.infer.encoder(x, c)
    codes = model.infer.posterior.codes
    distance = (encoding.unsqueeze(-1) - codes.T[None, :, None, None, :]).square().sum(1)
    nearest = distance.min(-1)
    cost = nearest.values.sum((1, 2)).mean()
    torch.testing.assert_close(terms["commitment"], cost)
    torch.testing.assert_close(terms["rate"].item(), 4 * math.log(5))
    torch.testing.assert_close(loss, terms["distortion"] + terms["rate"] + 1.25 * cost)
    z = codes[nearest.indices].movedim(-1, 1)
    torch.testing.assert_close(terms["distortion"], -model.generate(z, c).log_prob(x).mean())
    (through,) = torch.autograd.grad(terms["distortion"], model.infer.encoder.layers[-1].bias, retain_graph=True)
    assert through.abs().sum() > 0
    (moved,) = torch.autograd.grad(loss, codes)
    by_hand = torch.zeros_like(codes)
    for image, i, j in itertools.product(range(len(x)), range(2), range(2)):
        k = nearest.indices[image, i, j]
        by_hand[k] += 2 * (codes[k] - encoding[image, :, i, j]).detach() / len(x)
    torch.testing.assert_close(moved, by_hand)


def test_codes_follow_the_mean_of_their_encodings_and_the_unused_start_again() -> None:
    head = make(
        composed("posterior=codebook", "prior=codes", "loss=vq", "posterior.codes=3", "posterior.grid=[1,1]",
                 "posterior.ema=0.5", "posterior.restart_below=0.3")[0].posterior, latent_shape=(2,)
    ).double()  # fmt: skip
    head.codes.copy_(torch.tensor([[0.0, 0.0], [4.0, 4.0], [99.0, 99.0]]))
    head.total.copy_(head.codes)
    encodings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]).view(3, 2, 1, 1)
    head(encodings)
    torch.testing.assert_close(head.codes[0], torch.tensor([1 / 3, 1 / 3]))  # (0 + (1, 1)) / (1 + 2)
    torch.testing.assert_close(head.codes[1], torch.tensor([4.5, 4.5]))
    assert head.count[2] == 0.5
    head(encodings)
    assert any(torch.equal(head.codes[2], e.flatten()) for e in encodings)
    before = head.codes.clone()
    with torch.no_grad():
        head(encodings)
    head.eval()(encodings)
    assert torch.equal(before, head.codes)


def test_residual_levels_come_nearer_and_add_up() -> None:
    errors = []
    for levels in (1, 3):
        torch.manual_seed(0)
        head = make(composed("posterior=codebook", "prior=codes", "loss=vq", "posterior.codes=16",
                             f"posterior.levels={levels}")[0].posterior, latent_shape=(4,)).double().eval()  # fmt: skip
        encoding = torch.randn(10, 4, 7, 7, generator=torch.Generator().manual_seed(1))
        q = head(encoding)
        assert q.index.shape == (10, 49 * levels)
        torch.testing.assert_close(head.embed(q.index), q.code)
        errors.append((q.code - encoding).square().mean().item())
    assert errors[1] < errors[0]
