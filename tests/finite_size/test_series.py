import math

import numpy as np
import pytest
from scipy.signal import lfilter

from softmode.finite_size.series import (
    block_means,
    chance,
    correlated_steps,
    equilibrium_start,
    thermalised,
)


def autoregressive(rho, replicas, steps, seed=0):
    """Return stationary series x -> rho x + noise of unit variance, whose tau is (1 + rho) / (1 - rho)."""
    noise = math.sqrt(1 - rho**2) * np.random.default_rng(seed).normal(size=(replicas, steps))
    noise[:, 0] /= math.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_time_of_an_autoregressive_process(rho):
    """tau = (1 + rho)/(1 - rho), within 4 errors of the mean of 40 series and the 2 % that the window leaves out."""
    truth = (1 + rho) / (1 - rho)
    values = np.array([correlated_steps(autoregressive(rho, 8, 4000, seed)) for seed in range(40)])
    assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / math.sqrt(40) + 0.02 * truth
    # Sokal's formula for its error, an upper one for independent steps, where the window is shortest
    error = truth * math.sqrt(2 * (10 * truth + 1) / (8 * 4000))
    assert 0.5 < values.std(ddof=1) / error < 1 + 4 / math.sqrt(2 * 39)


@pytest.mark.parametrize("relaxation", [20, 100])
def test_an_exponential_approach_is_cut(relaxation):
    """What is left of a start that decays as exp(-t/T) is unbiased, and little more than it is cut (MSER-5)."""
    steps, replicas = 2000, 16
    approach = 10 * np.exp(-np.arange(steps) / relaxation)
    errors, cuts = [], []
    for seed in range(50):
        series = autoregressive(0.5, replicas, steps, seed) + approach
        cuts.append(5 * equilibrium_start(series.reshape(replicas, -1, 5).mean(2)))
        errors.append(series[:, cuts[-1] :].mean())
    stderr = math.sqrt(3 / (replicas * (steps - np.mean(cuts))))
    assert abs(np.mean(errors)) < stderr
    assert np.sqrt(np.mean(np.square(errors))) < 1.5 * stderr
    assert 2 * relaxation < np.mean(cuts) < 8 * relaxation
    # all of the series would be off by many errors
    assert approach.mean() > 5 * stderr


def two_starts(seed, approach, steps=64, rounds=16):
    """Return series of rounds from two starts, one from above and one from below."""
    series = autoregressive(0.2, 2 * rounds, steps, seed).reshape(rounds, 2, steps)
    return series + np.array([1, -1])[:, None] * approach


def test_both_starts_are_cut_where_they_approach_and_agree_after_that():
    """The later of both, whatever their mean does: from above and below the approach cancels in it."""
    approach = 5 * np.exp(-np.arange(64) / 3)
    found = [thermalised(two_starts(seed, approach)) for seed in range(40)]
    assert all(4 <= each.first <= 32 for each in found)
    assert np.mean([each.agrees for each in found]) > 0.9
    apart = np.array([each.apart for each in found])
    assert abs(apart.mean()) < 1
    # one start alone is enough
    late = np.array([[[0.0], [1.0]]]) * approach + two_starts(3, 0 * approach)
    assert thermalised(late).first >= 4


def test_series_at_equilibrium_keep_everything_but_for_chance():
    """A cut by chance, of 1 % of each start by the test, and somewhat more as the rule picks the worst place."""
    found = [thermalised(two_starts(seed, np.zeros(64))) for seed in range(200)]
    assert np.mean([each.first > 0 for each in found]) < 0.12
    # both differences are of unit variance, Student's 15 degrees of freedom apart
    for values in (np.array([each.apart for each in found]), np.array([each.drift for each in found])):
        assert abs(values.mean()) < 4 / math.sqrt(200) * 1.1
        assert values.std() == pytest.approx(math.sqrt(15 / 13), rel=4 / math.sqrt(400) + 0.05)
    assert np.mean([each.agrees for each in found]) > 0.97


def test_starts_that_stay_apart_and_series_that_drift_do_not_agree():
    stay = thermalised(two_starts(0, np.ones(64)))
    assert stay.apart > 20
    assert not stay.agrees
    drift = autoregressive(0.2, 32, 64).reshape(16, 2, 64) + np.linspace(0, 3, 64)
    found = thermalised(drift)
    assert abs(found.apart) < 4 < found.drift
    assert not found.agrees
    assert chance(4.073, 15) == pytest.approx(0.001, rel=0.01), "a table of Student's t"


def test_errors_by_blocks_are_those_of_independent_runs():
    """The error of one run's mean by its blocks against the scatter of 200 runs' means, and against tau."""
    rho, steps, runs = 0.8, 3000, 200
    series = autoregressive(rho, runs, steps)
    scatter = series.mean(1).std(ddof=1)
    by_blocks = []
    for run in series:
        units = block_means(run[None, :, None], 9.0)
        assert units.shape == (steps // 90, 1)
        by_blocks.append(units[:, 0].std(ddof=1) / math.sqrt(len(units)))
    # blocks of 10 tau leave 5 % of a variance out
    assert np.sqrt(np.mean(np.square(by_blocks))) == pytest.approx(scatter, rel=4 / math.sqrt(2 * runs) + 0.03)
    assert scatter == pytest.approx(math.sqrt(9 / steps), rel=4 / math.sqrt(2 * runs))


def test_blocks_keep_the_end_and_replicas_apart():
    series = np.arange(18.0).reshape(2, 9, 1)
    pairs = [1.5, 3.5, 5.5, 7.5, 10.5, 12.5, 14.5, 16.5]
    np.testing.assert_array_equal(block_means(series, 0.2)[:, 0], pairs)
    # too long a memory for four blocks of it: four all the same, which are not quoted
    assert len(block_means(series, 5.0)) == 8
    # blocks are as long as can be: 4 of 12 in 50, not of 10 that leave 10 out
    np.testing.assert_array_equal(block_means(np.arange(50.0)[None, :, None], 1.01)[:2], [[7.5], [19.5]])
    with pytest.raises(ValueError, match="got 3 steps; expected at least 4"):
        block_means(series[:, :3], 1.0)
