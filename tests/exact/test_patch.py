import itertools
import math
import re

import jaxtyping
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from softmode.denoiser import score
from softmode.exact import patch
from softmode.exact.dictionary import (
    PatchDictionary,
    paper_dictionary,
    parse_dictionary,
    random_dictionary,
    two_state_dictionary,
)
from softmode.exact.patch import PatchDenoiser, TwoStatePatch, dense_kernels, full_dispersion, periodic_correlation
from softmode.lattice import Lattice, ReceptiveField
from softmode.process import VP

LOPSIDED = ReceptiveField(((0, 0), (0, 1), (0, 2), (1, -1), (-2, 0)))
MODELS = [
    (ReceptiveField(((0,), (1,), (3,), (-1,))), (7,)),
    (ReceptiveField.box(3, 2), (4, 5)),
    (LOPSIDED, (5, 4)),
    (ReceptiveField.cross(1, 3), (3, 4, 3)),
]
models = pytest.mark.parametrize(("field", "space"), MODELS, ids=["1d", "2d-box", "2d-offsets", "3d"])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def real_valued(field, seed=3):
    """Return four real patterns of unequal norm with an asymmetric prior, one pattern switched off."""
    prior = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)
    return PatchDictionary(field, normal(4, field.size, seed=seed), prior)


@pytest.fixture
def unchecked_shapes():
    """Let arrays of the wrong shape through to the checks that users meet; the import hook would stop them first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def patches(x, field):
    """Return the patch around every site of one state by indexing, [sites, |Omega|]."""
    space = x.shape[1:]
    rows = []
    for site in itertools.product(*map(range, space)):
        around = [tuple((a + b) % n for a, b, n in zip(site, u, space, strict=True)) for u in field.offsets]
        rows.append(torch.stack([x[(0, *index)] for index in around]))
    return torch.stack(rows)


def brute_force(dictionary, x, sigma):
    """Return the posterior [pattern, sites] and D [sites] of one state by Python sums over patterns and offsets."""
    weights, denoised = [], []
    for y in patches(x, dictionary.receptive_field).tolist():
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
    dictionary, x = real_valued(field), normal(2, 1, *space)
    denoiser = PatchDenoiser(dictionary)
    posterior, denoised = denoiser.posterior(x, sigma), denoiser(x, sigma)
    assert posterior.shape == (2, 4, *space)
    for n in range(2):
        weights, mean = brute_force(dictionary, x[n], sigma)
        torch.testing.assert_close(posterior[n].flatten(1), weights, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(denoised[n].flatten(), mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(posterior.sum(1), torch.ones(2, *space, dtype=torch.float64))


@models
def test_score_is_the_gradient_at_the_centre_pixel(field, space):
    """(D_i - x_i) / sigma^2 is d/dy(0) of log sum_k pi_k N(y; p_k, sigma^2) of the patch y around i, at every site."""
    dictionary, x, sigma = real_valued(field), normal(1, 1, *space), 0.8
    y = patches(x[0], field).requires_grad_()
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
    y = patches(x[0], dictionary.receptive_field)
    logits = alpha / sigma2 * (y @ dictionary.patterns.T) + dictionary.prior.log()
    m = (logits.softmax(1) @ dictionary.patterns[:, 12]).reshape(x.shape)  # pixel 12 of 25 is the centre
    found = VP().evaluate(PatchDenoiser(dictionary), x, t, "score")
    torch.testing.assert_close(found, (alpha * m - x) / sigma2, rtol=1e-11, atol=1e-11)


def score_jacobian(denoiser, x, sigma):
    """Return the dense Jacobian of the score at one state, [sites, sites]."""
    jacobian = torch.func.jacrev(lambda x: score(denoiser, x, sigma))(x)
    return jacobian.reshape(x.numel(), x.numel())


@pytest.mark.parametrize("sigma", [1.0, 3.0, 5.0])
def test_minimal_score_is_a_gradient_field_to_linear_order_only(sigma):
    """The Jacobian of the two-state score is symmetric at x = 0 and clearly not away from it (facts 8)."""
    denoiser = TwoStatePatch(ReceptiveField.box(3, 2))
    at_zero = score_jacobian(denoiser, torch.zeros(1, 1, 5, 6, dtype=torch.float64), sigma)
    torch.testing.assert_close(at_zero, at_zero.T, rtol=0, atol=1e-15)
    away = score_jacobian(denoiser, sigma * normal(1, 1, 5, 6), sigma)
    off_diagonal = away - away.diagonal().diag()
    assert (away - away.T).norm() > 0.1 * off_diagonal.norm()


def test_dictionary_score_is_no_gradient_field_even_to_linear_order():
    """At x = 0 the row is C_0u / sigma^4, and random patterns have C_0u != C_0,-u: no symmetry there either."""
    dictionary, sigma = random_dictionary(4, 0, ReceptiveField.box(3, 2)), 2.0
    zero = torch.zeros(1, 1, 5, 6, dtype=torch.float64)
    denoiser, coupling = PatchDenoiser(dictionary), dictionary.coupling()
    torch.testing.assert_close(denoiser.kernel(zero, sigma)[0], coupling / sigma**2, rtol=1e-13, atol=1e-14)
    assert (coupling - coupling.flip(0)).abs().max() > 0.4
    jacobian = score_jacobian(denoiser, zero, sigma)
    expected = (2 * (coupling - coupling.flip(0)).square().sum() * 30 / 2).sqrt() / sigma**4
    torch.testing.assert_close((jacobian - jacobian.T).norm(), expected)


@pytest.mark.parametrize(
    "denoiser", [TwoStatePatch(LOPSIDED), PatchDenoiser(paper_dictionary(1))], ids=["two", "paper"]
)
def test_symmetric_models_are_odd_and_translate(denoiser):
    """D(-x) = -D(x), D(0) = 0, and translating the state translates D."""
    x = normal(2, 1, 6, 7)
    torch.testing.assert_close(denoiser(-x, 2.0), -denoiser(x, 2.0), rtol=1e-12, atol=1e-13)
    assert denoiser(0 * x, 2.0).abs().max() < 1e-15
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
    dictionary, x = real_valued(field), normal(2, 1, 5, 5)
    scaled = PatchDictionary(field, scale * dictionary.patterns, dictionary.prior)
    expected = scale * PatchDenoiser(dictionary)(x, 0.7)
    torch.testing.assert_close(PatchDenoiser(scaled)(scale * x, 0.7 * scale), expected, rtol=1e-9, atol=0)


def test_patterns_without_prior_do_not_matter():
    """A dictionary with a pattern of probability 0 is the dictionary without it, at every noise level."""
    field, x = ReceptiveField.box(3, 2), normal(2, 1, 5, 6)
    full = real_valued(field)
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
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


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
    for n in range(2):
        expected = kernels @ patches(x[n], field).T + bias[:, None]
        torch.testing.assert_close(found[n].flatten(1), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("space", [(4, 5), (5, 4), (9,), (6, 6, 6)])
@pytest.mark.parametrize(
    "model", [TwoStatePatch(ReceptiveField.box(5)), PatchDenoiser(paper_dictionary(0))], ids=["two", "paper"]
)
def test_field_larger_than_the_lattice_is_refused(model, space):
    """A field that would wrap around the lattice, or has another dimension, is refused by name, in one line."""
    with pytest.raises(ValueError, match=r"^receptive_field: spans \(5, 5\)") as error:
        model(torch.zeros(1, 1, *space), 1.0)
    assert "\n" not in str(error.value)


def test_random_dictionary_is_m_signs_and_their_flips():
    """M sign patterns and their flips, equally likely, the same for the same seed only (Eqs. 23, 24)."""
    field = ReceptiveField.box(5, 2)
    dictionary = random_dictionary(8, 3, field)
    assert dictionary.patterns.shape == (16, 25)
    assert set(dictionary.patterns.flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(dictionary.patterns[:8], -dictionary.patterns[8:])
    assert len({tuple(p) for p in dictionary.patterns.tolist()}) == 16
    torch.testing.assert_close(dictionary.prior, torch.full((16,), 1 / 16, dtype=torch.float64))
    assert torch.equal(dictionary.patterns, random_dictionary(8, 3, field).patterns)
    assert not torch.equal(dictionary.patterns, random_dictionary(8, 4, field).patterns)
    assert torch.equal(dictionary.centre, dictionary.patterns[:, 12])


def test_random_signs_are_fair():
    """Over 200 seeds of 4 patterns the mean sign, of all and of each of 25 pixels, is 0 within 4 standard errors."""
    field = ReceptiveField.box(5, 2)
    signs = torch.stack([random_dictionary(4, seed, field).patterns[:4] for seed in range(200)])
    assert abs(float(signs.mean())) < 4 / math.sqrt(signs.numel())
    assert signs.mean((0, 1)).abs().max() < 4 / math.sqrt(800)


def test_paper_dictionary_is_equation_49():
    """Ten patterns: 4 random ones and their flips of 0.1 / 8 each, all +1 and all -1 of 0.45 each."""
    dictionary = paper_dictionary(5)
    assert dictionary.receptive_field == ReceptiveField.box(5, 2)
    assert dictionary.patterns.shape == (10, 25)
    assert dictionary.prior.tolist() == pytest.approx([0.0125] * 8 + [0.45] * 2)
    assert torch.equal(dictionary.patterns[:4], -dictionary.patterns[4:8])
    assert dictionary.patterns[8:].unique(dim=1).flatten().tolist() == [1, -1]
    assert torch.equal(dictionary.patterns, paper_dictionary(5).patterns)
    assert not torch.equal(dictionary.patterns, paper_dictionary(6).patterns)
    small = paper_dictionary(5, ReceptiveField.cross(1, 3))
    assert small.patterns.shape == (10, 7)


def test_omega_eff_over_seeds():
    """Omega_eff = 0.9 * 25 + 0.1 * (1 + noise): mean 22.6, standard deviation 0.1 sqrt(24 / 4) = 0.245 over seeds."""
    values = np.array([paper_dictionary(seed).omega_eff for seed in range(200)])
    deviation = 0.1 * math.sqrt(24 / 4)
    stderr = deviation / math.sqrt(200)
    assert stderr < 0.02
    assert abs(values.mean() - 22.6) < 4 * stderr
    assert abs(values.std(ddof=1) - deviation) < 4 * deviation / math.sqrt(2 * 199)


def test_coupling_is_the_covariance_with_the_centre():
    """C_0u = sum_k pi_k p_k(0) p_k(u); it is 1 everywhere and Omega_eff = |Omega| for two states (Eq. 30)."""
    field = ReceptiveField.box(5, 2)
    assert two_state_dictionary(field).omega_eff == 25
    assert two_state_dictionary(field).coupling().tolist() == [1] * 25
    dictionary = real_valued(LOPSIDED)
    for j in range(5):
        terms = [
            float(dictionary.prior[k] * dictionary.patterns[k, LOPSIDED.centre] * dictionary.patterns[k, j])
            for k in range(4)
        ]
        assert float(dictionary.coupling()[j]) == pytest.approx(math.fsum(terms), rel=1e-13)


def test_is_symmetric_compares_probabilities():
    """A dictionary is Z2-symmetric if p and -p are equally likely in total; patterns of probability 0 do not count."""
    field = ReceptiveField.box(3, 1)
    p, q = [1.0, -1.0, 1.0], [0.5, 0.0, 2.0]

    def symmetric(patterns, prior):
        return PatchDictionary(field, torch.tensor(patterns).double(), torch.tensor(prior).double()).is_symmetric()

    flip, minus = [-v for v in p], [-v for v in q]
    assert paper_dictionary(0).is_symmetric()
    assert two_state_dictionary(field).is_symmetric()
    assert symmetric([p, flip, q, minus], [0.2, 0.2, 0.3, 0.3])
    assert symmetric([p, flip, p], [0.25, 0.5, 0.25])
    assert symmetric([p, flip, q], [0.5, 0.5, 0.0])
    assert symmetric([[0.0, 0.0, 0.0]], [1.0])
    assert not symmetric([p, flip], [0.4, 0.6])
    assert not symmetric([p, q], [0.5, 0.5])
    assert not symmetric([p, flip, q], [0.4, 0.4, 0.2])


@pytest.mark.parametrize(
    ("patterns", "prior", "message"),
    [
        (torch.ones(2, 9), torch.tensor([0.7, -0.3]), "prior: got a negative"),
        (torch.ones(2, 9), torch.tensor([0.7, math.nan]), "prior: got a negative or non-finite"),
        (torch.ones(2, 9), torch.tensor([0.7, 0.7]), "prior: sums to 1.4"),
        (torch.ones(2, 9), torch.tensor([0.5, 0.25]), "prior: sums to 0.75"),
        (torch.ones(2, 9), torch.ones(3) / 3, "prior: got shape (3,); expected (2,)"),
        (torch.ones(2, 8), torch.ones(2) / 2, "patterns: got shape (2, 8); expected (patterns, 9)"),
        (torch.ones(0, 9), torch.ones(0), "patterns: got shape (0, 9)"),
        (torch.full((2, 9), math.inf), torch.ones(2) / 2, "patterns: got a value that is not finite"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_dictionaries_refuse_bad_arrays(patterns, prior, message):
    """Wrong shapes, values that are not finite and priors that are no probabilities are refused by name."""
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        PatchDictionary(ReceptiveField.box(3), patterns.double(), prior.double())
    assert "\n" not in str(error.value)


def test_parse_reads_every_form(tmp_path):
    """The names give their dictionaries; an npz file gives its own, with patterns flat or in the shape of the box."""
    field = ReceptiveField.box(3, 2)
    for text, expected in (
        ("paper", paper_dictionary(2, field)),
        ("two-state", two_state_dictionary(field)),
        ("random:3", random_dictionary(3, 2, field)),
    ):
        found = parse_dictionary(text, 2, field)
        assert torch.equal(found.patterns, expected.patterns)
        assert torch.equal(found.prior, expected.prior)
        assert found.receptive_field == field
    patterns, prior = normal(4, 9), torch.full((4,), 0.25, dtype=torch.float64)
    for shape in ((4, 9), (4, 3, 3)):
        path = str(tmp_path / "dictionary.npz")
        np.savez(path, patterns=patterns.reshape(shape).numpy(), prior=prior.numpy())
        found = parse_dictionary(path, 0, field)
        assert torch.equal(found.patterns, patterns)
        assert torch.equal(found.prior, prior)
        assert patterns[:, 4].equal(found.centre)
    np.savez(path, patterns=np.sign(patterns.numpy()).astype(np.int8), prior=prior.numpy().astype(np.float32))
    assert parse_dictionary(path, 0, field).patterns.dtype == torch.float64


@pytest.mark.parametrize(
    "text", ["", "papers", "random", "random:", "random:x", "random:0", "random:-2", "random:1.5", "random:²", "x.npy"]
)
def test_parse_refuses_other_names(text):
    """Anything else is a ValueError of one line that names the argument."""
    with pytest.raises(ValueError, match=r"^dictionary: got") as error:
        parse_dictionary(text, 0, ReceptiveField.box(3))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"text", b"PK\x03\x04 cut short", "npy", "folder"],
    ids=["missing", "empty", "text", "broken-zip", "single-array", "folder"],
)
def test_unreadable_files_are_refused(tmp_path, content):
    """A file that is missing or no npz archive is a ValueError of one line that names the file."""
    path = tmp_path / "dictionary.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones((2, 9)))
    elif content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^dictionary: cannot read") as error:
        parse_dictionary(str(path), 0, ReceptiveField.box(3))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"patterns": np.ones((1, 9))}, "dictionary: cannot read"),
        ({"prior": np.ones(1)}, "dictionary: cannot read"),
        ({"patterns": np.array([["a"] * 9]), "prior": np.ones(1)}, "dictionary: cannot read"),
        ({"patterns": np.array([[None] * 9]), "prior": np.ones(1)}, "dictionary: cannot read"),
        ({"patterns": np.ones((1, 8)), "prior": np.ones(1)}, "patterns: got shape (1, 8)"),
        ({"patterns": np.ones(9), "prior": np.ones(1)}, "patterns: got shape (9,)"),
        ({"patterns": np.ones((0, 9)), "prior": np.ones(0)}, "patterns: got shape (0, 9)"),
        ({"patterns": np.full((1, 9), np.nan), "prior": np.ones(1)}, "patterns: got a value that is not finite"),
        ({"patterns": np.ones((2, 9)), "prior": np.array([1.5, -0.5])}, "prior: got a negative"),
        ({"patterns": np.ones((2, 9)), "prior": np.array([1.0, 2.0])}, "prior: sums to 3"),
        ({"patterns": np.ones((2, 9)), "prior": np.array([np.inf, 0])}, "prior: got a negative or non-finite"),
        ({"patterns": np.ones((2, 9)), "prior": np.ones((2, 1)) / 2}, "prior: got shape (2, 1)"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_files_with_bad_arrays_are_refused(tmp_path, arrays, message):
    """Arrays that are missing, of another type or shape, or no dictionary, are refused in one line."""
    path = str(tmp_path / "dictionary.npz")
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse_dictionary(path, 0, ReceptiveField.box(3))
    assert "\n" not in str(error.value)


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

    noise = torch.randn(64, 1, 20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
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
