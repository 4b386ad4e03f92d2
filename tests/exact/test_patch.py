"""Patch models: against sums in Python, the literal equations, and dense Jacobians."""

import itertools
import math
from functools import partial

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from helpers.dense import jacobian, patches
from helpers.errors import refused
from helpers.models import LOPSIDED, real_dictionary
from helpers.random import normal
from softmode.denoiser import score
from softmode.exact import patch
from softmode.exact.dictionary import (
    PatchDictionary,
    paper_dictionary,
    random_dictionary,
    two_state_dictionary,
)
from softmode.exact.patch import PatchDenoiser, TwoStatePatch, dense_kernels, full_dispersion, periodic_correlation
from softmode.lattice import Lattice, ReceptiveField
from softmode.process import VP

MODELS = [
    (ReceptiveField(((0,), (1,), (3,), (-1,))), (7,)),
    (ReceptiveField.box(3, 2), (4, 5)),
    (LOPSIDED, (5, 4)),
    (ReceptiveField.cross(1, 3), (3, 4, 3)),
]
# unequal, one of the four patterns switched off
WEIGHTS = (0.1, 0.0, 0.6, 0.3)
models = pytest.mark.parametrize(("field", "space"), MODELS, ids=["1d", "2d-box", "2d-offsets", "3d"])


def brute_force(dictionary, x, sigma):
    """Return the posterior [pattern, sites] and D [sites] of one state by Python sums over patterns and offsets."""
    weights, denoised = [], []
    for y in patches(x[None], dictionary.receptive_field)[0].flatten(1).T.tolist():
        likelihood = [
            probability * math.exp(-sum((a - b) ** 2 for a, b in zip(y, p, strict=True)) / (2 * sigma**2))
            for p, probability in zip(dictionary.patterns.tolist(), dictionary.prior.tolist(), strict=True)
        ]
        posterior = [value / math.fsum(likelihood) for value in likelihood]
        weights.append(posterior)
        denoised.append(math.fsum(w * c for w, c in zip(posterior, dictionary.centre.tolist(), strict=True)))
    return torch.tensor(weights, dtype=torch.float64).T, torch.tensor(denoised, dtype=torch.float64)


@models
@pytest.mark.parametrize("sigma", [0.6, 2.0])
def test_posterior_and_mean_are_the_brute_force_sums(field, space, sigma):
    """w_k(i) and D_i equal Bayes' rule summed pattern by pattern and pixel by pixel."""
    dictionary, x = real_dictionary(field, *WEIGHTS), normal(2, 1, *space)
    denoiser = PatchDenoiser(dictionary)
    posterior, denoised = denoiser.posterior(x, sigma), denoiser(x, sigma)
    assert posterior.shape == (2, 4, *space)
    for n in range(2):
        weights, mean = brute_force(dictionary, x[n], sigma)
        torch.testing.assert_close(posterior[n].flatten(1), weights, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(denoised[n].flatten(), mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(posterior.sum(1), torch.ones(2, *space, dtype=torch.float64))


@models
def test_score_is_the_gradient_at_the_centre_pixel(field, space):
    """(D_i - x_i) / sigma^2 is d/dy(0) of log sum_k pi_k N(y; p_k, sigma^2) of the patch y around i, at every site."""
    dictionary, x, sigma = real_dictionary(field, *WEIGHTS), normal(1, 1, *space), 0.8
    y = patches(x, field)[0].flatten(1).T.requires_grad_()
    squared = (y[:, None] - dictionary.patterns).square().sum(2)
    density = torch.logsumexp(dictionary.prior.log() - squared / (2 * sigma**2), 1).sum()
    expected = torch.autograd.grad(density, y)[0][:, field.centre]
    found = score(PatchDenoiser(dictionary), x, sigma)
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-12, atol=1e-12)


@models
def test_two_state_dictionary_is_the_minimal_model(field, space):
    """The dictionary of two constant patterns has the mean, response, kernel and gains of Eq. 9's closed form."""
    closed, general = TwoStatePatch(field), PatchDenoiser(two_state_dictionary(field))
    x, v, k = normal(3, 1, *space), normal(3, 1, *space, seed=1), normal(4, len(space), seed=2)
    for sigma in (0.3, 1.5, 5.0, torch.tensor([0.3, 1.5, 40.0], dtype=torch.float64)):
        for method in ("__call__", "kernel"):
            found, expected = (getattr(model, method)(x, sigma) for model in (general, closed))
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(general.jvp(x, sigma, v), closed.jvp(x, sigma, v), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            general.dispersion(x, sigma, k), closed.dispersion(x, sigma, k), rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(full_dispersion(general, x, sigma), full_dispersion(closed, x, sigma))


def test_minimal_model_is_the_literal_equation_9():
    """s_i = [alpha tanh(alpha S_i / sigma^2) - x_i] / sigma^2 with S_i summed over 25 rolled copies of a VP state."""
    x = normal(2, 1, 6, 7)
    total = sum(x.roll((-a, -b), (2, 3)) for a, b in itertools.product(range(-2, 3), repeat=2))
    denoiser = TwoStatePatch(ReceptiveField.box(5, 2))
    for t in (0.05, 1.0, 3.3):
        alpha, sigma2 = math.exp(-t / 2), 1 - math.exp(-t)
        expected = (alpha * (alpha / sigma2 * total).tanh() - x) / sigma2
        torch.testing.assert_close(VP().evaluate(denoiser, x, t, "score"), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t", [0.05, 1.0, 3.2, 12.0])
def test_paper_dictionary_is_the_literal_equations_54_to_57(t):
    """The score in VP coordinates is Eqs. 54-57 as printed: softmax of alpha <p_k, y> / sigma^2 + log pi_k."""
    dictionary, x = paper_dictionary(4), normal(1, 1, 7, 6)
    alpha, sigma2 = math.exp(-t / 2), 1 - math.exp(-t)
    y = patches(x, dictionary.receptive_field)[0].flatten(1).T
    logits = alpha / sigma2 * (y @ dictionary.patterns.T) + dictionary.prior.log()
    m = (logits.softmax(1) @ dictionary.patterns[:, 12]).reshape(x.shape)  # pixel 12 of 25 is the centre
    found = VP().evaluate(PatchDenoiser(dictionary), x, t, "score")
    torch.testing.assert_close(found, (alpha * m - x) / sigma2, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sigma", [1.0, 3.0, 5.0])
def test_minimal_score_is_a_gradient_field_to_linear_order_only(sigma):
    """The Jacobian of the two-state score is symmetric at x = 0 and clearly not away from it (facts 8)."""
    local_score = partial(score, TwoStatePatch(ReceptiveField.box(3, 2)), sigma=sigma)
    at_zero = jacobian(local_score, torch.zeros(1, 1, 5, 6, dtype=torch.float64))
    torch.testing.assert_close(at_zero, at_zero.T, rtol=0, atol=1e-13)
    away = jacobian(local_score, sigma * normal(1, 1, 5, 6))
    off_diagonal = away - away.diagonal().diag()
    assert (away - away.T).norm() > 0.1 * off_diagonal.norm()


def test_dictionary_score_is_no_gradient_field_even_to_linear_order():
    """At x = 0 the row is C_0u / sigma^4, and random patterns have C_0u != C_0,-u: no symmetry there either."""
    dictionary, sigma = random_dictionary(4, 0, ReceptiveField.box(3, 2)), 2.0
    zero = torch.zeros(1, 1, 5, 6, dtype=torch.float64)
    denoiser, coupling = PatchDenoiser(dictionary), dictionary.coupling()
    torch.testing.assert_close(denoiser.kernel(zero, sigma)[0], coupling / sigma**2, rtol=1e-13, atol=1e-13)
    assert (coupling - coupling.flip(0)).abs().max() > 0.4
    dense = jacobian(partial(score, denoiser, sigma=sigma), zero)
    expected = (2 * (coupling - coupling.flip(0)).square().sum() * 30 / 2).sqrt() / sigma**4
    torch.testing.assert_close((dense - dense.T).norm(), expected)


@pytest.mark.parametrize(
    "denoiser", [TwoStatePatch(LOPSIDED), PatchDenoiser(paper_dictionary(1))], ids=["two", "paper"]
)
def test_symmetric_models_are_odd_and_translate(denoiser):
    """D(-x) = -D(x), D(0) = 0, and translating the state translates D."""
    x = normal(2, 1, 6, 7)
    torch.testing.assert_close(denoiser(-x, 2.0), -denoiser(x, 2.0), rtol=1e-12, atol=1e-13)
    assert denoiser(0 * x, 2.0).abs().max() < 1e-13
    moved = denoiser(x.roll((2, -1), (2, 3)), 2.0)
    torch.testing.assert_close(moved, denoiser(x, 2.0).roll((2, -1), (2, 3)), rtol=1e-12, atol=1e-13)


def test_soft_point_of_a_dictionary_is_at_omega_eff():
    """At x = 0 the gain of the constant mode is Omega_eff / sigma^2, so r = 0 at log(1 + Omega_eff) (facts 4)."""
    dictionary = paper_dictionary(7)
    zero, k = torch.zeros(1, 1, 6, 6, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    level = VP().noise_level(math.log(1 + dictionary.omega_eff))
    assert float(PatchDenoiser(dictionary).dispersion(zero, level, k)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-5, 1e3])
def test_dictionaries_of_any_amplitude(scale):
    """Scaling patterns, state and sigma scales D, also where all pattern norms are far below 1."""
    field = ReceptiveField.box(3, 2)
    dictionary, x = real_dictionary(field, *WEIGHTS), normal(2, 1, 5, 5)
    scaled = PatchDictionary(field, scale * dictionary.patterns, dictionary.prior)
    expected = scale * PatchDenoiser(dictionary)(x, 0.7)
    torch.testing.assert_close(PatchDenoiser(scaled)(scale * x, 0.7 * scale), expected, rtol=1e-9, atol=0)


def test_patterns_without_prior_do_not_matter():
    """A dictionary with a pattern of probability 0 is the dictionary without it, at every noise level."""
    field, x = ReceptiveField.box(3, 2), normal(2, 1, 5, 6)
    full = real_dictionary(field, *WEIGHTS)
    keep = full.prior > 0
    reduced = PatchDictionary(field, full.patterns[keep], full.prior[keep])
    for sigma in (1e-3, 0.5, 1e4):
        for dtype in (torch.float32, torch.float64):
            found, expected = (PatchDenoiser(d)(x.to(dtype), sigma) for d in (full, reduced))
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        assert (PatchDenoiser(full).posterior(x, sigma)[:, 1] < 1e-300).all()


def test_chunks_do_not_change_the_result(monkeypatch):
    """However the batch is cut for memory, mean and kernel are the same to rounding, each with its own sigma."""
    denoiser, x = PatchDenoiser(paper_dictionary(0)), normal(5, 1, 6, 7)
    levels = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    whole = denoiser(x, levels), denoiser.kernel(x, levels), full_dispersion(denoiser, x, levels)
    for chunk in (1, 2 * 10 * 42, 3 * 10 * 42 + 1):
        monkeypatch.setattr(patch, "CHUNK", chunk)
        parts = denoiser(x, levels), denoiser.kernel(x, levels), full_dispersion(denoiser, x, levels)
        for a, b in zip(parts, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_kernel_keeps_its_digits_where_one_pattern_has_won():
    """At small sigma the float32 kernel has the digits of float64, down to 1e-8 of what it is a difference of."""
    denoiser = PatchDenoiser(paper_dictionary(2))
    x = (1 + 0.3 * normal(2, 1, 8, 8)).float()
    for sigma, largest in ((1.0, 1e-7), (0.8, 1e-11), (0.5, 1e-25)):
        exact, found = denoiser.kernel(x.double(), sigma), denoiser.kernel(x, sigma)
        scale = float(exact.abs().max())
        assert 0 < scale < largest
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-4 * scale)


def test_kernels_are_laid_out_in_the_enclosing_box():
    """dense_kernels puts the weight of offset u at u + reach, zeros elsewhere."""
    dense = dense_kernels(torch.arange(1.0, 6.0)[None], LOPSIDED)
    expected = torch.zeros(1, 1, 4, 4)
    for value, (a, b) in enumerate(LOPSIDED.offsets, start=1):
        expected[0, 0, a + 2, b + 1] = value
    assert torch.equal(dense, expected)


@models
def test_periodic_correlation_is_the_brute_force_sum(field, space):
    """y_a(i) = b_a + sum_u k_a(u) x_{i+u} with periodic boundaries, on axes of different length."""
    x, kernels, bias = normal(2, 1, *space), normal(3, field.size, seed=1), normal(3, seed=2)
    found = periodic_correlation(x, dense_kernels(kernels, field), field, bias)
    expected = torch.einsum("au,bu...->ba...", kernels, patches(x, field)) + bias.reshape(3, *[1] * len(space))
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("space", [(4, 5), (5, 4), (9,), (6, 6, 6)])
@pytest.mark.parametrize(
    "model", [TwoStatePatch(ReceptiveField.box(5)), PatchDenoiser(paper_dictionary(0))], ids=["two", "paper"]
)
def test_field_larger_than_the_lattice_is_refused(model, space):
    """A field that would wrap around the lattice, or has another dimension, is refused by name, in one line."""
    with refused(r"^receptive_field: spans \(5, 5\)"):
        model(torch.zeros(1, 1, *space), 1.0)


def test_float32_lattices_agree_with_float64():
    """On a float32 state of the paper's model D agrees with float64 to 1e-5, from noise to pattern."""
    denoiser, x = PatchDenoiser(paper_dictionary(0)), normal(1, 1, 12, 12).float()
    for sigma in (0.3, 1.0, 5.0, 50.0):
        state = 1 + sigma * x
        torch.testing.assert_close(denoiser(state, sigma).double(), denoiser(state.double(), sigma), rtol=0, atol=2e-5)


def test_large_lattice_shells_are_the_paper_numbers():
    """At x = 0 and sigma = 5 the gains of the minimal model at L = 80 are Omega^(k) / 25, shell by shell."""
    k = Lattice((80, 80)).shell_vectors(3)
    gains = TwoStatePatch(ReceptiveField.box(5)).dispersion(torch.zeros(1, 1, 80, 80), 5.0, k)
    assert (25 * gains[0, :, 0]).tolist() == pytest.approx([25, 24.846, 24.387, 23.634], abs=5e-4)


def test_noise_inside_the_patch_delays_the_drifts_zero():
    """On pure noise the two-state gain is (Omega/sigma^2) E[sech^2], below tree level: lambda_0 vanishes later."""
    size, field = 25, ReceptiveField.box(5)

    def gain(sigma: float) -> float:
        ratio = size / sigma**2

        def weighted(z: float) -> float:
            return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / math.cosh(math.sqrt(ratio) * z) ** 2

        return ratio * quad(weighted, -12, 12)[0]

    noise = normal(64, 1, 20, 20)
    for sigma in (4.0, 6.0):
        measured = TwoStatePatch(field).kernel(sigma * noise, sigma).sum(-1)
        stderr = float(measured.std()) / 8
        assert stderr < 0.01
        assert abs(float(measured.mean()) - gain(sigma)) < 4 * stderr
    process = VP()

    def rate(t: float) -> float:
        return float(process.eigenvalue(torch.tensor(gain(float(process.noise_level(t))), dtype=torch.float64), t))

    assert rate(math.asinh(size)) > 0.1, "at the tree-level zero the noisy drift is still restoring"
    assert brentq(rate, 3.0, 3.9) == pytest.approx(3.477, abs=1e-3)
