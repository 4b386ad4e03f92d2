import math
from functools import partial

import pytest
import torch

from helpers.dense import jacobian
from helpers.errors import refused
from helpers.random import normal
from softmode.denoiser import score
from softmode.exact.empirical import EmpiricalDenoiser, TwoPrototypes, check_prior
from softmode.lattice import Lattice
from softmode.process import VP

SHAPES = [(1, 6), (2, 3, 4), (1, 2, 3, 2)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=["1d", "2d-2-channels", "3d"])


PRIOR = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


@shapes
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["equal", "prior"])
def test_weights_and_mean_are_equation_1(shape, prior):
    """w_j is the normalised pi_j N(x; x_j, sigma^2) and D their mean, summed in Python one by one."""
    data, x = normal(4, *shape), normal(3, *shape, seed=1)
    levels = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    weights, denoised = EmpiricalDenoiser(data, prior).weights(x, levels), EmpiricalDenoiser(data, prior)(x, levels)
    for n, sigma in enumerate(levels.tolist()):
        state = x[n].flatten().tolist()
        points = data.flatten(1).tolist()
        likelihood = [
            p * math.exp(-sum((a - b) ** 2 for a, b in zip(state, point, strict=True)) / (2 * sigma**2))
            for p, point in zip([0.25] * 4 if prior is None else prior.tolist(), points, strict=True)
        ]
        expected = [value / math.fsum(likelihood) for value in likelihood]
        assert weights[n].tolist() == pytest.approx(expected, rel=1e-12)
        mean = [math.fsum(w * point[i] for w, point in zip(expected, points, strict=True)) for i in range(len(state))]
        assert denoised[n].flatten().tolist() == pytest.approx(mean, rel=1e-11, abs=1e-13)


def test_score_is_the_literal_equation_1_in_vp_coordinates():
    """Grad log p_t = sum_j w_j grad log N(x_t; alpha x_j, sigma^2) with w_j proportional to p_t(x_t | x_j)."""
    data, x_t = normal(5, 1, 3, 3), normal(2, 1, 3, 3, seed=1)
    for t in (0.1, 1.0, 4.0):
        alpha, sigma2 = math.exp(-t / 2), 1 - math.exp(-t)
        pull = (alpha * data - x_t[:, None]) / sigma2
        w = (-0.5 * sigma2 * pull.flatten(2).square().sum(2)).softmax(1)
        expected = (w.reshape(2, 5, 1, 1, 1) * pull).sum(1)
        found = VP().evaluate(EmpiricalDenoiser(data), x_t, t, "score")
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@shapes
@pytest.mark.parametrize("sigma", [0.4, 1.0, 5.0])
def test_dense_jacobian_is_the_derivative(shape, sigma):
    """The closed-form Jacobian Cov[x_0] / sigma^2 is reverse-mode AD of D, symmetric, and contracts to the jvp."""
    denoiser = EmpiricalDenoiser(normal(4, *shape), PRIOR)
    x, v = normal(2, *shape, seed=1), normal(2, *shape, seed=2)
    found = denoiser.jacobian(x, sigma)
    for i in range(2):
        expected = jacobian(partial(denoiser, sigma=sigma), x[i : i + 1])
        torch.testing.assert_close(found[i], expected, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(found[i], found[i].T, rtol=0, atol=1e-13)
    contracted = torch.einsum("bij,bj->bi", found, v.flatten(1)).reshape(v.shape)
    torch.testing.assert_close(denoiser.jvp(x, sigma, v), contracted, rtol=1e-12, atol=1e-12)


def test_jacobian_takes_noise_levels_per_state():
    """Each state's Jacobian is divided by its own sigma^2, and keeps float32."""
    denoiser, x = EmpiricalDenoiser(normal(4, 1, 6)), normal(3, 1, 6, seed=1)
    levels = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    expected = torch.cat([denoiser.jacobian(x[i : i + 1], float(levels[i])) for i in range(3)])
    torch.testing.assert_close(denoiser.jacobian(x, levels), expected, rtol=1e-12, atol=1e-13)
    assert denoiser.jacobian(x.float(), levels).dtype == torch.float32


@shapes
def test_two_prototypes_are_a_data_set_of_two(shape):
    """D, response and gains of +mu and -mu in closed form (tanh, sech^2) are those of the data set {mu, -mu}."""
    mu, x, v = normal(*shape), normal(3, *shape, seed=1), normal(3, *shape, seed=2)
    closed, general = TwoPrototypes(mu), EmpiricalDenoiser(torch.stack([mu, -mu]))
    k = Lattice(shape[1:]).wave_vectors()
    for sigma in (0.5, 2.0, torch.tensor([0.3, 1.0, 30.0], dtype=torch.float64)):
        torch.testing.assert_close(closed(x, sigma), general(x, sigma), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(closed.jvp(x, sigma, v), general.jvp(x, sigma, v), rtol=1e-10, atol=1e-12)
        found, expected = closed.dispersion(x, sigma, k), general.dispersion(x, sigma, k)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


@shapes
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_log_density_has_the_score_as_gradient(shape, sigma):
    """The gradient of log_density (Eq. 3) is the score, and its Hessian at x = 0 is -1/sigma^2 + mu mu^T / sigma^4."""
    model, x = TwoPrototypes(normal(*shape)), normal(3, *shape, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_density(x, sigma).sum(), x)
    torch.testing.assert_close(gradient, score(model, x.detach(), sigma), rtol=1e-12, atol=1e-12)
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    n = zero.numel()
    hessian = torch.func.hessian(lambda x: model.log_density(x, sigma).sum())(zero).reshape(n, n)
    mu = model.mu.flatten()
    expected = torch.outer(mu, mu) / sigma**4 - torch.eye(n, dtype=torch.float64) / sigma**2
    torch.testing.assert_close(hessian, expected, rtol=1e-12, atol=1e-12)


def test_log_density_is_the_mixture():
    """Eq. 3 is log [N(x; mu) + N(x; -mu)] / 2 up to one constant; it is 0 at x = 0, and finite far out."""
    model, x = TwoPrototypes(normal(1, 5)), normal(4, 1, 5, seed=1)
    sigma = torch.tensor([0.2, 0.7, 1.0, 6.0], dtype=torch.float64)
    squared = torch.stack([(x - sign * model.mu).flatten(1).square().sum(1) for sign in (1, -1)])
    expected = torch.logsumexp(-squared / (2 * sigma**2), 0) + model.mu.square().sum() / (2 * sigma**2) - math.log(2)
    torch.testing.assert_close(model.log_density(x, sigma), expected, rtol=1e-12, atol=1e-12)
    assert float(model.log_density(0 * x[:1], 1.0)) == pytest.approx(0, abs=1e-13)
    for dtype in (torch.float32, torch.float64):
        assert model.log_density(1e3 * x.to(dtype), 1e-2).isfinite().all()
        assert model.log_density(x.to(dtype), 1e-2).dtype == dtype


def test_two_prototypes_lose_stability_at_sigma_equal_mu():
    """At x = 0 the response along mu is |mu|^2 / sigma^2 and 0 across: the critical noise level is |mu| (Sec. 3)."""
    mu = normal(1, 4, 4)
    model, zero = TwoPrototypes(mu), torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    critical = float(mu.norm())
    torch.testing.assert_close(model.jvp(zero, critical, mu[None]), mu[None], rtol=1e-13, atol=1e-13)
    across = normal(1, 1, 4, 4, seed=3)
    across -= (across * mu).sum() / mu.square().sum() * mu
    assert model.jvp(zero, critical, across).abs().max() < 1e-13


def test_gains_keep_their_digits_in_float32():
    """The float32 gain of close data points on a large common mean agrees with float64 to 1 % of the largest."""
    data = 1 + 0.02 * normal(4, 1, 8, 8)
    x, k = (data[:2] + 0.05 * normal(2, 1, 8, 8, seed=1)).float(), Lattice((8, 8)).shell_vectors(2)
    denoiser = EmpiricalDenoiser(data.float())
    exact, found = denoiser.dispersion(x.double(), 0.05, k), denoiser.dispersion(x, 0.05, k)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-2 * float(exact.max()))


def test_far_points_do_not_spoil_the_softmax():
    """Where all but one weight underflow, the weights are 1 and 0 and the mean is that data point, per state."""
    data = torch.stack([torch.full((1, 6), value, dtype=torch.float64) for value in (-1.0, 0.0, 100.0)])
    for dtype in (torch.float32, torch.float64):
        x = data.to(dtype)
        weights = EmpiricalDenoiser(data).weights(x, 1e-3)
        assert torch.equal(weights, torch.eye(3, dtype=dtype))


@pytest.mark.parametrize(
    ("prior", "length", "message"),
    [
        ([0.5, 0.5], 3, "got shape"),
        ([[1.0]], 1, "got shape"),
        ([1.2, -0.2], 2, "got a negative"),
        ([math.nan, 1.0], 2, "got a negative or non-finite"),
        ([math.inf, 0.0], 2, "got a negative or non-finite"),
        ([0.5, 0.4], 2, "sums to 0.9"),
        ([0.0, 0.0], 2, "sums to 0"),
    ],
)
def test_bad_priors_are_refused(prior, length, message):
    """A prior of another length, with negative or non-finite values, or of another sum is refused by name."""
    with refused(rf"^prior: {message}"):
        check_prior(torch.tensor(prior), length)


def test_float32_probabilities_are_a_prior():
    """A thousand float32 probabilities sum to 1 to rounding and are taken."""
    check_prior(torch.full((1000,), 1e-3), 1000)


@pytest.mark.parametrize(
    ("data", "prior", "name"),
    [
        (torch.zeros(0, 1, 4), None, "data"),
        (torch.tensor([[[0.0, math.nan]]]), None, "data"),
        (torch.tensor([[[0.0, math.inf]]]), None, "data"),
        (torch.zeros(2, 1, 4), torch.ones(3) / 3, "prior"),
        (torch.zeros(2, 1, 4), torch.tensor([0.5, 0.6]), "prior"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_data_are_refused(data, prior, name):
    """Data that are empty or not finite, and a prior that does not fit them, are refused by name, in one line."""
    with refused(rf"^{name}: "):
        EmpiricalDenoiser(data, prior)


def test_gains_of_every_wave_vector_sum_to_the_trace():
    """Over all wave vectors of a one-channel lattice the gains sum to the trace of the Jacobian (Parseval)."""
    for space in ((7,), (4, 5), (2, 3, 4)):
        denoiser, x = EmpiricalDenoiser(normal(4, 1, *space), PRIOR), normal(2, 1, *space, seed=1)
        gains = denoiser.dispersion(x, 0.9, Lattice(space).wave_vectors()).flatten(1)
        trace = denoiser.jacobian(x, 0.9).diagonal(dim1=1, dim2=2).sum(1)
        torch.testing.assert_close(gains.sum(1), trace, rtol=1e-12, atol=1e-13)
        assert (gains > -1e-13).all()
