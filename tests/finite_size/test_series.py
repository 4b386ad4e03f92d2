import math

import numpy as np
import pytest
from scipy.signal import lfilter

from softmode.estimate import Estimate
from softmode.finite_size.series import autocorrelation_time, block_means, effort, equilibrium_start


def autoregressive(rho, replicas, steps, seed=0):
    """Return stationary series x -> rho x + noise of unit variance, whose tau is (1 + rho) / (1 - rho)."""
    noise = math.sqrt(1 - rho**2) * np.random.default_rng(seed).normal(size=(replicas, steps))
    noise[:, 0] /= math.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_time_of_an_autoregressive_process(rho):
    """tau = (1 + rho)/(1 - rho) within 4 of its stated errors; over 40 series these are what it scatters by."""
    truth = (1 + rho) / (1 - rho)
    found = [autocorrelation_time(autoregressive(rho, 8, 4000, seed)) for seed in range(40)]
    values, error = np.array([each.value for each in found]), found[0].stderr
    assert abs(values[0] - truth) < 4 * error < 0.5 * truth
    # the window leaves out some hundredth of tau, which counts in the mean of many
    assert abs(values.mean() - truth) < 4 * error / math.sqrt(40) + 0.02 * truth
    # Sokal's error is an upper estimate for independent steps, where the window is shortest
    assert 0.5 < values.std(ddof=1) / np.mean([each.stderr for each in found]) < 1 + 4 / math.sqrt(2 * 39)
    assert found[0].samples == int(8 * 4000 / found[0].value)


def test_too_short_a_series_says_how_long_one_must_be():
    """Below 50 autocorrelation times of one replica there is no number, however many replicas there are."""
    with pytest.raises(
        ValueError, match=r"m\^2: got 600 steps, \d+ autocorrelation times .* at least 50: run \d+ steps"
    ):
        autocorrelation_time(autoregressive(0.9, 64, 600), "m^2")
    assert autocorrelation_time(autoregressive(0.9, 64, 1500)).value == pytest.approx(19, rel=0.1)


@pytest.mark.parametrize(
    "series", [np.ones((2, 100)), np.zeros((1, 100)), np.arange(20.0)[None]], ids=["1", "0", "short"]
)
def test_a_series_without_change_has_no_time(series):
    with pytest.raises(ValueError, match="run longer"):
        autocorrelation_time(series)


def test_replicas_of_different_states_are_refused():
    """Each replica alone looks well sampled; their means tell that none has seen the others' states."""
    series = autoregressive(0.5, 8, 1000)
    assert autocorrelation_time(series).value == pytest.approx(3, rel=0.2)
    with pytest.raises(ValueError, match="8 replicas whose means differ by"):
        autocorrelation_time(series + np.linspace(-1, 1, 8)[:, None])


@pytest.mark.parametrize("relaxation", [20, 100])
def test_an_exponential_approach_is_cut(relaxation):
    """What is left of a start that decays as exp(-t/T) is unbiased, and little more than the approach is cut."""
    steps, replicas = 2000, 16
    approach = 10 * np.exp(-np.arange(steps) / relaxation)
    errors, cuts = [], []
    for seed in range(50):
        series = autoregressive(0.5, replicas, steps, seed) + approach
        cuts.append(equilibrium_start(series))
        errors.append(series[:, cuts[-1] :].mean())
    stderr = math.sqrt(3 / (replicas * (steps - np.mean(cuts))))
    assert abs(np.mean(errors)) < stderr
    assert np.sqrt(np.mean(np.square(errors))) < 1.5 * stderr
    assert 2 * relaxation < np.mean(cuts) < 8 * relaxation
    # all of the series would be off by many errors
    assert approach.mean() > 5 * stderr


def test_a_series_at_equilibrium_keeps_nearly_all():
    cuts = [equilibrium_start(autoregressive(0.8, 4, 2000, seed)) for seed in range(50)]
    assert np.mean(cuts) < 100


def test_a_series_that_drifts_throughout_is_refused():
    drift = np.linspace(0, 5, 500) + autoregressive(0.5, 4, 500)
    with pytest.raises(ValueError, match=r"m: got 500 steps that drift .* run at least 1000 steps"):
        equilibrium_start(drift, "m")


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
    series = np.arange(14.0).reshape(2, 7, 1)
    np.testing.assert_array_equal(block_means(series, 0.3), [[2], [5], [9], [12]])
    with pytest.raises(ValueError, match="7 steps; expected a block of 10"):
        block_means(series, 1.0)


def test_effort_is_quadratic_in_the_error():
    """Twice the precision costs four times; the samples that it names give the wanted error."""
    pilot = Estimate(1.0, 0.1, 100)
    assert effort(pilot, 0.05, 3.0) == (400, 1200)
    values = np.random.default_rng(0).normal(scale=2.0, size=(400, 1000))
    pilot = Estimate(0.0, float(values[0, :100].std(ddof=1)) / 10, 100)
    samples = effort(pilot, 0.1, 1.0).samples
    assert samples == pytest.approx(400, rel=0.6)
    assert values[:, :samples].mean(1).std(ddof=1) == pytest.approx(0.1, rel=0.4)
    with pytest.raises(ValueError, match="error: got 0 "):
        effort(pilot, 0.0, 1.0)
