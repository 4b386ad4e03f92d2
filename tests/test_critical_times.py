"""Features of curves: zeros, peaks, onsets and undefined bands, and their errors over trajectories."""

import math

import numpy as np
import pytest

from helpers.curves import bump, grid, uneven
from softmode.critical import (
    PROMINENCE,
    SMOOTHING,
    crossing_times,
    estimate_times,
    lasting_crossings,
    onset_time,
    peak_time,
    peak_times,
    undefined_bands,
)
from softmode.process import VP, log_grid


@pytest.mark.parametrize("times", [grid(40), uneven(31)], ids=["uniform", "uneven"])
def test_crossings_of_a_line_are_exact(times):
    """A curve linear in log t crosses zero exactly where it should, either way; times come in falling order."""
    u = np.log(times)
    for zero in (-0.3, 0.0, 1.2):
        for sign in (1, -1):
            assert crossing_times(sign * (u - zero), times) == pytest.approx([math.exp(zero)], rel=1e-12)
    several = crossing_times(np.sin(3 * u), grid(40) if len(times) == 40 else times)
    assert (np.diff(several) < 0).all()


@pytest.mark.parametrize(
    ("curve", "crossings"),
    [
        ([2, 1, -1, -2], [1.5]),
        ([1, -3, 1], [0.25, 1.75]),
        ([3, 2, 1], []),
        ([-1, -2, -3], []),
        ([1, 0, -1], [1]),
        ([-1, 0, 1], [1]),
        ([2, 1, 0, -1, 1], [2, 3.5]),
        ([1, 0, 1], []),
        ([-1, 0, -1], []),
        ([0, 1, 2], []),
        ([0, -1, -2], []),
        ([0, 1, -1], [1.5]),
        ([2, 1, 0], []),
        ([0, 0, 0], []),
        ([1, math.nan, -1], []),
        ([1, math.nan, -1, 1], [2.5]),
        ([1, 0, math.nan, -1], []),
        ([1, math.nan, 0, -1], []),
        ([math.nan, 1, -1, math.nan], [1.5]),
        ([math.nan, math.nan, math.nan], []),
        ([1, math.inf, -1], []),
    ],
    ids=str,
)
def test_crossings_at_the_edges(curve, crossings):
    """A crossing counts once, on a grid point too; touching zero, starting from it or a gap (NaN) is none."""
    times = np.exp(-np.arange(len(curve), dtype=float))
    found = -np.log(crossing_times(np.array(curve, dtype=float), times))
    np.testing.assert_allclose(found, crossings, atol=1e-12)


def test_a_crossing_through_a_stretch_of_zeros_counts_once():
    """A curve that stays at zero and leaves on the other side crosses once, within the stretch."""
    times = np.exp(-np.arange(5.0))
    for sign in (1, -1):
        found = -np.log(crossing_times(sign * np.array([1.0, 0, 0, 0, -1]), times))
        assert len(found) == 1
        assert 1 <= found[0] <= 3
    assert len(crossing_times(np.array([1.0, 0, 0, 0, 1]), times)) == 0


def test_noise_about_a_zero_does_not_multiply_it():
    """A curve that crosses and comes back, with noise of short memory, has two lasting crossings at their places."""
    t = grid(2001)
    u = np.log(t)
    clean = (u - 1.0) * (u + 2.0)
    noisy = clean + 0.3 * np.sin(60 * u)
    assert len(crossing_times(noisy, t)) > 4
    np.testing.assert_allclose(np.log(lasting_crossings(noisy, t)), [1.0, -2.0], atol=0.1)
    np.testing.assert_allclose(lasting_crossings(clean, t), crossing_times(clean, t))


def test_excursions_are_kept_from_the_smoothing_width_on():
    """A dip below zero narrower than the smoothing width vanishes, a wider one stays."""
    t = grid(2001)
    u = np.log(t)
    for width, count in ((0.9 * SMOOTHING, 0), (1.1 * SMOOTHING, 2)):
        assert len(lasting_crossings(np.abs(u) - width / 2, t)) == count
    assert len(lasting_crossings(np.full(len(t), np.nan), t)) == 0


def test_all_planted_peaks_are_found():
    """Peaks that stand out by the prominence are found in falling order of time, at their place; lower ones are not."""
    t = grid()
    u = np.log(t)
    curve = bump(u, 2.0, 2.0) + bump(u, 0.0, 0.8) + bump(u, -3.0, 5.0) + bump(u, -5.0, 0.2)
    found = np.log(peak_times(curve, t))
    np.testing.assert_allclose(found, [2, 0, -3], atol=0.03)
    damping = 0.3 / math.hypot(0.3, SMOOTHING)
    for height, count in ((1.1 * PROMINENCE, 4), (0.9 * PROMINENCE, 3)):
        assert len(peak_times(curve + bump(u, -5.0, height / damping - 0.2), t)) == count
    assert len(peak_times(0.1 * curve, t)) == 2, "a low curve is judged by its own height: 0.8 / 5 is too little"


def test_noise_has_no_peaks():
    """White noise of standard deviation 0.2 on a smooth curve makes no peak and hides none."""
    t, rng = grid(), np.random.default_rng(0)
    u = np.log(t)
    for _ in range(50):
        found = peak_times(bump(u, -1.0, 3.0, 0.6) + 0.2 * rng.normal(size=len(t)), t)
        assert np.log(found) == pytest.approx([-1], abs=0.25)


@pytest.mark.parametrize("width", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("top", [math.log1p(40**2), math.log1p(33.7**2), 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.1, 0.7])
def test_a_plateau_is_one_peak_at_its_middle(width, top, floor):
    """A saturated stretch, however long, counts once and its middle stands for it: rounding makes no peaks."""
    t = grid(81)
    u = np.log(t)
    found = np.log(peak_times(np.where(np.abs(u - 0.3) < width / 2, top + floor, floor), t))
    assert len(found) == 1
    assert found[0] == pytest.approx(0.3, abs=1.1 * (u[0] - u[1]))


def test_the_ends_are_no_peaks():
    """Curves that are highest at an end, rise, fall or stay flat there have no peak there."""
    t = grid()
    u = np.log(t)
    for curve in (u, -u, bump(u, u[0]), bump(u, u[-1]), np.ones_like(u), np.maximum(u, 0), np.minimum(u, 0)):
        assert len(peak_times(3 * curve, t)) == 0
    np.testing.assert_allclose(np.log(peak_times(3 * bump(u, 0.5) + 5 * bump(u, u[0]), t)), [0.5], atol=0.03)


def test_peak_time_is_where_the_curve_is_largest():
    """The largest defined value's time; NaN where nothing is defined."""
    t = np.array([4.0, 3.0, 2.0, 1.0])
    assert peak_time(np.array([0.0, np.nan, 5.0, 1.0]), t) == 2.0
    assert math.isnan(peak_time(np.full(4, np.nan), t))


def test_onset_is_the_last_rise_before_the_fastest_growth():
    """The onset is interpolated where growth last rose through 10 % of its peak, whatever came before or after."""
    t = np.exp(-np.arange(8.0))
    growth = np.array([0.0, 0.3, 0.0, 0.0, 0.2, 1.0, 0.05, 0.4])
    assert -math.log(onset_time(growth, t)) == pytest.approx(3.5)
    assert -math.log(onset_time(growth, t, share=0.6)) == pytest.approx(4.5)
    assert -math.log(onset_time(7 * growth, t)) == pytest.approx(3.5)


@pytest.mark.parametrize(
    "growth",
    [
        [0.5, 0.8, 1.0, 0.0],
        [1.0, 0.5, 0.0, 0.0],
        [-1.0, -0.5, -2.0, -1.0],
        [math.nan] * 4,
        [0.0, 0.5, math.nan, 1.0],
        [0.5, 0.0, math.nan, 1.0],
    ],
    ids=str,
)
def test_onset_is_undefined_without_a_rise(growth):
    """No onset if growth was never below the share, is never positive, is undefined, or rose within a gap."""
    assert math.isnan(onset_time(np.array(growth), np.exp(-np.arange(4.0))))


def test_onset_after_a_gap():
    """A rise after an undefined stretch still counts."""
    t = np.exp(-np.arange(5.0))
    assert -math.log(onset_time(np.array([0.5, math.nan, 0.0, 0.2, 1.0]), t)) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("undefined", "bands"),
    [
        ([], []),
        ([0, 1, 2, 3, 4], [(5.0, 1.0)]),
        ([0], [(5.0, 5.0)]),
        ([4], [(1.0, 1.0)]),
        ([0, 2, 3], [(5.0, 5.0), (3.0, 2.0)]),
    ],
    ids=str,
)
def test_undefined_bands(undefined, bands):
    """Maximal stretches of NaN, as (first, last) in falling time, at the ends and alone too."""
    curve = np.arange(5.0)
    curve[undefined] = np.nan
    assert undefined_bands(curve, np.array([5.0, 4.0, 3.0, 2.0, 1.0])) == bands


def lines(zero, slope, spread, trajectories=60, seed=0, times=None):
    """Return curves slope (log t - zero) + noise, one offset per trajectory: the crossing of the median scatters."""
    u = np.log(grid(101) if times is None else times)
    return slope * (u - zero) + spread * np.random.default_rng(seed).normal(size=(trajectories, 1))


def test_estimated_crossing_has_the_standard_error_of_the_median():
    """The crossing of the median line scatters by the median's standard error over the slope."""
    found = estimate_times(lines(0.5, 2.0, 0.3, 200), grid(101), crossing_times)
    assert len(found) == 1
    stderr = math.sqrt(math.pi / 2) * 0.3 / 2.0 / math.sqrt(200)  # of log t
    assert found[0].stderr / found[0].value == pytest.approx(stderr, rel=0.25)
    assert found[0].low < found[0].value < found[0].high
    assert math.log(found[0].value) == pytest.approx(0.5, abs=4 * stderr)
    assert found[0].samples == 200
    assert found[0].reason == ""


def test_several_features_are_matched_each_to_its_own():
    """Three crossings of one curve keep their own intervals although resamples may lose one of them."""
    t = grid(401)
    u = np.log(t)
    shape = np.interp(-u, [-3, -1, 1, 3], [3.0, -3.0, 3.0, -3.0])
    curves = shape + 0.3 * np.random.default_rng(1).normal(size=(50, 1))
    found = estimate_times(curves, t, crossing_times)
    np.testing.assert_allclose(np.log([e.value for e in found]), [2, 0, -2], atol=0.1)
    stderr = math.sqrt(math.pi / 2) * 0.3 / 3 / math.sqrt(50)
    for e in found:
        assert e.reason == ""
        assert 0.5 * stderr < e.stderr / e.value < 2 * stderr


def test_a_missing_feature_is_reported():
    """A crossing that only some resamples have gets the share of those as its reason; a safe one beside it does not."""
    t = grid(401)
    u = np.log(t)
    shape = 3 * np.tanh(u - 2) + bump(u, -3.0, 3.1)
    curves = shape + 0.3 * np.random.default_rng(2).normal(size=(9, 1))
    found = estimate_times(curves, t, crossing_times)
    assert len(found) == 3
    safe, *doubtful = found
    assert safe.reason == ""
    for e in doubtful:
        assert e.reason.startswith("found in ")
        assert 10 < int(e.reason.split()[2]) < 95


def test_a_far_feature_is_no_match():
    """When the nearest feature of a resample is more than half way to another one, the feature counts as missing."""
    t = np.exp(-np.arange(0.0, 10.0))
    reference = [math.exp(-2), math.exp(-6)]  # asked for twice: to match with, and as the value
    answers = iter([reference] * 2 + [[math.exp(-2)], [math.exp(-0.5), math.exp(-3), math.exp(-6.5)]] * 500)
    found = estimate_times(np.zeros((4, 10)), t, lambda curve, times: np.array(next(answers)))
    assert [e.value for e in found] == pytest.approx([math.exp(-2), math.exp(-6)])
    assert found[0].reason == ""
    assert found[1].reason == "found in 50 % of bootstrap resamples"
    assert found[0].low == pytest.approx(math.exp(-3))
    assert found[1].stderr < 1e-12
    assert found[1].low == pytest.approx(math.exp(-6.5))


def test_no_feature_gives_no_estimate():
    """A median curve without the feature gives an empty list, whether the feature says so by [] or by NaN."""
    t = grid(101)
    assert estimate_times(np.ones((5, 101)), t, crossing_times) == []
    assert estimate_times(np.full((5, 101), np.nan), t, peak_time) == []
    assert estimate_times(np.full((5, 101), np.nan), t, crossing_times) == []


def test_one_trajectory_has_times_without_errors():
    """A single trajectory still gives the time, with a NaN standard error and the reason."""
    found = estimate_times(lines(0.5, 2.0, 0.0, 1), grid(101), crossing_times)
    assert math.log(found[0].value) == pytest.approx(0.5)
    assert math.isnan(found[0].stderr)
    assert "one trajectory" in found[0].reason


def test_zero_of_the_drift_of_the_minimal_model():
    """lambda_0 at x = 0 of the 5x5 two-state model crosses zero at t = 3.912, and 1 - G_0 at log 26 = 3.258."""
    process, times = VP(), log_grid(20.0, 0.5, 2000)
    gain = 25 / process.noise_level(times) ** 2
    for curve, expected in ((process.eigenvalue(gain, times), 3.912), (1 - gain, math.log(26))):
        assert crossing_times(curve.numpy(), times.numpy()) == pytest.approx([expected], abs=5e-4)
