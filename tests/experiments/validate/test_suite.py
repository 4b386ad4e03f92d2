"""The models of the suite, their flaws, and the truth about them."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats

from softmode.contract import check_denoiser
from softmode.exact.mixture import GaussianMixture
from softmode.experiments.validate.flaws import FLAWS, HalfPrecision, Noisy
from softmode.experiments.validate.suite import (
    DEPTH,
    HIERARCHY,
    NULLS,
    RULES,
    SIDE,
    SYMBOLS,
    TRANSITIONS,
    direction,
    null_case,
    transition_case,
)  # fmt: skip
from softmode.experiments.validate.truth import information, top_eigenvalues, truth

MEAN, SPREAD = 8.0, 1.0
EVERY = len(FLAWS) * len(NULLS)


def two() -> GaussianMixture:
    mean = MEAN * direction(np.random.default_rng(0))
    return GaussianMixture(torch.stack([mean, -mean]), SPREAD)


def test_the_truth_of_two_classes_is_that_of_the_closed_form() -> None:
    """In one dimension, along mu: the share of unstable states, and what is known of the class, by quadrature."""

    def unstable(sigma: float) -> float:
        total = math.hypot(SPREAD, sigma)
        edge = total**2 / MEAN * math.acosh(MEAN / total)
        return float(stats.norm.cdf((edge - MEAN) / total) - stats.norm.cdf((-edge - MEAN) / total))

    def known(sigma: float) -> float:
        a = MEAN / math.hypot(SPREAD, sigma)
        lost, _ = integrate.quad(lambda z: stats.norm.pdf(z) * np.logaddexp(0, -2 * a * (a + z)), -9, 9)
        return math.log(2) - lost

    found = truth(two(), None, share=0.8)
    # an error of the share of 4 standard errors of 4000 states moves the ends by 3 %
    assert found["sigma_lo"] == pytest.approx(optimize.brentq(lambda s: unstable(s) - 0.05, 2.0, 5.0), rel=0.03)
    assert found["sigma_hi"] == found["transition"]
    assert found["sigma_hi"] == pytest.approx(optimize.brentq(lambda s: unstable(s) - 0.05, 6.5, 7.93), rel=0.01)
    assert found["first_unstable_state"] == pytest.approx(math.sqrt(MEAN**2 - SPREAD**2), rel=1e-6)
    assert math.isnan(found["half_of_states_unstable"])
    for sigma in (20.0, 8.0, 3.0):
        assert information(two(), sigma, torch.arange(2)) == pytest.approx(known(sigma), abs=4 * 0.3 / math.sqrt(4000))
    by_label = truth(two(), torch.arange(2), share=0.8)
    assert known(by_label["sigma_c"]) == pytest.approx(math.log(2) / 2, abs=0.02)
    gained = known(by_label["sigma_lo"]) - known(by_label["sigma_hi"])
    assert gained == pytest.approx(0.8 * math.log(2), abs=0.02)


def test_top_eigenvalues_are_those_of_the_jacobian() -> None:
    """Of three classes, against the dense Jacobian at states drawn in the whole space."""
    fields = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 1, 2, 3)))
    mixture = GaussianMixture(3 * fields, 0.5)
    stream, sigma = torch.Generator().manual_seed(0), 2.5
    noise = torch.randn(600, 1, 2, 3, generator=stream, dtype=torch.float64)
    states = mixture.means[torch.arange(600) % 3] + math.hypot(0.5, sigma) * noise
    dense = [
        torch.func.jacrev(lambda z: mixture.denoiser()(z[None], sigma)[0])(x).reshape(6, 6).numpy() for x in states
    ]
    tops = np.linalg.eigvalsh(np.stack(dense))[:, -1]
    found = top_eigenvalues(mixture, sigma)
    error = math.hypot(tops.std() / math.sqrt(600), found.std() / math.sqrt(len(found)))
    assert found.mean() == pytest.approx(tops.mean(), abs=4 * error)
    assert error < 0.03


@pytest.mark.parametrize("index", range(EVERY))
def test_every_null_is_a_denoiser(index: int) -> None:
    """With every flaw: finite, deterministic, of its shape; the same for the same seed, and another for another."""
    case = null_case(index, 0)
    x = torch.randn(1, *case.model.shape, generator=torch.Generator().manual_seed(1))
    for sigma in (0.01, 1.0, 80.0):
        check_denoiser(case.model.denoiser(), case.model, torch.float32, torch.device("cpu"), sigma)
        again, other = (null_case(index, seed).model.denoiser()(sigma * x, torch.tensor(sigma)) for seed in (0, 1))
        found = case.model.denoiser()(sigma * x, torch.tensor(sigma))
        assert torch.equal(found, again)
    assert not torch.equal(found, other)
    assert case.mixture is None


def test_the_suite_has_every_kind_with_every_flaw() -> None:
    """And transitions with labels and without, of norms of at least 4."""
    assert {(case.kind, case.flaw) for case in (null_case(i, 0) for i in range(EVERY))} == {
        (kind, flaw) for kind in NULLS for flaw in FLAWS
    }
    cases = [transition_case(i, 0) for i in range(2 * len(TRANSITIONS) * len(FLAWS))]
    found = {(case.kind, case.flaw, case.labels is not None) for case in cases}
    # the two kinds of two classes are one, and a hierarchy always has its classes
    assert len(found) == len(FLAWS) * (2 * (len(set(TRANSITIONS)) - 1) + 1)
    for case in cases:
        assert case.mixture is not None
        classes = 0 if case.labels is None else len(set(case.labels.tolist()))
        assert case.model.classes == classes
        norms = (case.mixture.means - case.mixture.means.mean(0)).flatten(1).norm(dim=1)
        assert float(norms.min()) > 3
        if case.levels:
            assert len(case.mixture.means) == 2 ** len(case.levels)
            assert case.levels[0] == pytest.approx(10 * case.levels[1])
            assert float(norms[0]) == pytest.approx(math.sqrt(sum(level**2 for level in case.levels)))


def test_flaws_are_as_large_as_they_say_and_leave_derivatives_alone() -> None:
    """An error of the output has its standard deviation; half precision its relative rounding of the network's part."""
    x = torch.randn(64, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def smooth(z: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        return torch.tanh(z)

    noisy, half = Noisy(smooth, 1e-3), HalfPrecision(smooth, 1.0)
    assert float((noisy(x, 1.0) - smooth(x, 1.0)).std()) == pytest.approx(1e-3, rel=0.02)
    push = torch.ones_like(x)
    exact, with_error = (torch.func.jvp(lambda z, d=each: d(z, 1.0), (x,), (push,))[1] for each in (smooth, noisy))
    torch.testing.assert_close(exact, with_error)
    # c_skip = 1/2 and c_out = 1/sqrt(2) at sigma = 1, and 8 bits of the significand
    part = (smooth(x, 1.0) - 0.5 * x).abs()
    wrong = (half(x, 1.0) - smooth(x, 1.0)).abs()
    assert bool((wrong <= part * 2.0**-8 + 1e-6).all())
    assert float((wrong / part.clamp(min=1e-3)).mean()) > 2.0**-11


def test_a_hierarchy_has_all_strings_of_its_rules() -> None:
    """512 of them, 128 of each class; a class is told by its pairs, and of those without noise all of it is known."""
    case = transition_case(TRANSITIONS.index(HIERARCHY), 0)
    assert case.mixture is not None
    assert case.labels is not None
    assert case.mixture.means.flatten(1).unique(dim=0).shape[0] == SYMBOLS * RULES ** (2**DEPTH - 1) == 512
    assert torch.bincount(case.labels).tolist() == [128] * 4
    # each of eight blocks holds one of four patterns
    blocks = case.mixture.means.reshape(512, 2**DEPTH, -1)
    assert blocks.flatten(0, 1).unique(dim=0).shape[0] <= SYMBOLS
    assert information(case.mixture, 0.01, case.labels) == pytest.approx(math.log(4), rel=1e-6)
    assert information(case.mixture, 80.0, case.labels) < 0.05
    # the denoiser of all is the mean of the classes' over their posterior
    x = torch.randn(5, *case.model.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    components = case.mixture.log_posterior(x, 3.0).exp()
    posterior = torch.stack([components[:, case.labels == label].sum(1) for label in range(4)], 1)
    each = torch.stack([case.model.denoiser(label)(x, 3.0) for label in range(4)], 1)
    mixed = torch.einsum("il,il...->i...", posterior, each)
    torch.testing.assert_close(mixed, case.model.denoiser()(x, 3.0))


def test_labels_of_nothing_differ_by_their_errors_alone() -> None:
    """Every label has the field's denoiser, with an error of its own where the flaw is one."""
    place = list(NULLS).index("labels of nothing")
    plain, wrong = null_case(place, 0), null_case(place + 3 * len(NULLS), 0)
    x = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert plain.model.classes >= 2
    assert torch.equal(plain.model.denoiser(0)(x, 1.0), plain.model.denoiser(1)(x, 1.0))
    assert wrong.flaw == "error of 1e-3"
    apart = wrong.model.denoiser(0)(x, 1.0) - wrong.model.denoiser(1)(x, 1.0)
    assert 0 < float(apart.abs().max()) < 0.1
