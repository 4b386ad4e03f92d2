"""The weighted fit of the dispersion: exact rates, its interval's coverage, and rates that are not quadratic."""

import numpy as np
import pytest

from softmode.critical import fit_dispersion
from softmode.weighted_fit import weighted_fit

K = np.stack([2 * np.pi * np.arange(5) / 28] * 2, 1)
RATE, CURVATURE = 0.3, 0.4
LENGTH = np.sqrt(CURVATURE / RATE)
TRUE = RATE + CURVATURE * K**2
# repetitions of each statistical test
MANY = 400


def noisy(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return rates of which those of one trajectory are off together, and those of high shells more than others."""
    together = 0.05 * rng.standard_normal((MANY, count, 1, 1))
    each = 0.02 * np.array([1, 1, 2, 3, 3])[:, None] * rng.standard_normal((MANY, count, 5, 2))
    # the repetitions stand where times do
    return (TRUE * (1 + together) + each).swapaxes(0, 1)


def test_exact_rates_give_their_length() -> None:
    """With noise in no trajectory it is that of Eq. 69, and there is no misfit."""
    fit = weighted_fit(np.tile(TRUE, (6, 3, 1, 1)), K)
    assert fit.length(1).value == pytest.approx(LENGTH, rel=1e-9)
    assert fit.length(1).stderr < 1e-9
    assert fit.misfit.max() < 1e-6


@pytest.mark.parametrize("count", [8, 16, 64])
def test_the_interval_covers(count: int) -> None:
    """95 % within 4 standard errors of the share, and the median error below that of the unweighted fit or near it."""
    values = noisy(count, np.random.default_rng(count))
    fit = weighted_fit(values, K)
    lengths = [fit.length(place) for place in range(MANY)]
    covered = np.mean([each.low <= LENGTH <= each.high for each in lengths])
    assert covered == pytest.approx(0.955, abs=4 * np.sqrt(0.95 * 0.05 / MANY))
    off = np.log([each.value / LENGTH for each in lengths])
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(MANY)
    assert np.mean([each.stderr / each.value for each in lengths]) == pytest.approx(off.std(), rel=0.25)
    plain = np.log(fit_dispersion(values.mean(0), K).length / LENGTH)
    assert off.std() < 1.15 * plain.std()
    assert fit.misfit.mean() == pytest.approx(1, abs=0.2)


def test_a_noisy_constant_mode_is_weighed_for_what_it_is() -> None:
    """Eq. 69 takes it for exact: with ten times its noise the weighted fit is at least twice as sure."""
    rng = np.random.default_rng(1)
    values = np.tile(TRUE, (32, MANY, 1, 1)) + 0.01 * rng.standard_normal((32, MANY, 5, 2))
    values[:, :, 0] += 0.1 * rng.standard_normal((32, MANY, 1))
    plain = np.log(fit_dispersion(values.mean(0), K).length / LENGTH)
    weighted = np.log(weighted_fit(values, K).dispersion.length / LENGTH)
    assert 2 * weighted.std() < plain.std()


def test_rates_that_are_not_quadratic_have_a_misfit() -> None:
    """A constant mode below all others, as in a network that gets it wrong."""
    values = noisy(16, np.random.default_rng(2))
    values[:, :, 0] *= 0.5
    assert np.median(weighted_fit(values, K).misfit) > 5


def test_what_has_no_length_says_so() -> None:
    """A negative curvature."""
    length = weighted_fit(np.tile(RATE - 0.1 * K**2, (6, 1, 1, 1)), K).length(0)
    assert np.isnan(length.value)
    assert "not positive" in length.reason
