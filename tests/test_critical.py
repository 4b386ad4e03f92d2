import itertools
import math

import numpy as np
import pytest
import torch

from softmode.critical import (
    PROMINENCE,
    SMOOTHING,
    Dispersion,
    crossing_times,
    estimate_times,
    fit_dispersion,
    growth_rate,
    lasting_crossings,
    onset_time,
    peak_time,
    peak_times,
    smooth,
    undefined_bands,
)
from softmode.exact.patch import TwoStatePatch
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.gains import exact_gains
from softmode.process import VP, log_grid

INTERCEPTS = ("constant mode", "free")
intercepts = pytest.mark.parametrize("intercept", INTERCEPTS)
K = Lattice((24, 30)).wavenumbers(6).numpy()


def grid(points=401, t_max=50.0, t_min=1e-3):
    return log_grid(t_max, t_min, points - 1).numpy()


def quadratic(rate, curvature, k=K):
    """Return lambda = rate + curvature k^2 at every shell and axis, [..., shell, axis]."""
    rate, curvature = (np.asarray(value, dtype=float)[..., None, None] for value in (rate, curvature))
    return rate + curvature * k**2


@intercepts
@pytest.mark.parametrize("k", [K, Lattice((20,)).wavenumbers(6).numpy(), Lattice((16, 14, 18)).wavenumbers(6).numpy()])
def test_fit_recovers_a_quadratic_dispersion(intercept, k):
    """xi_eq, rate and curvature come back exactly from lambda_0 (1 + xi^2 k^2), curve by curve."""
    rate, xi = np.array([[0.5, 2.0, 1e-3], [30.0, 1e4, 1.0]]), np.array([[0.1, 1.0, 40.0], [3.0, 0.2, 7.0]])
    fit = fit_dispersion(quadratic(rate, rate * xi**2, k), k, intercept)
    np.testing.assert_allclose(fit.rate, rate, rtol=1e-11)
    np.testing.assert_allclose(fit.length**2, xi**2, rtol=1e-8)
    assert fit.length.shape == rate.shape


@intercepts
def test_fit_is_least_squares(intercept):
    """On any values the fit is numpy's least-squares solution over all axes of shells 1, 2, 3, weighted equally."""
    values = np.random.default_rng(0).normal(size=(5, 7, 2))
    fit = fit_dispersion(values, K, intercept)
    square = (K[1:4] ** 2).ravel()
    for n, curve in enumerate(values):
        y = curve[1:4].ravel()
        if intercept == "constant mode":
            rate = curve[0].mean()
            curvature = np.linalg.lstsq(square[:, None], y - rate, rcond=None)[0][0]
        else:
            rate, curvature = np.linalg.lstsq(np.stack([np.ones(6), square], 1), y, rcond=None)[0]
        assert fit.rate[n] == pytest.approx(rate, rel=1e-10)
        assert fit.curvature[n] == pytest.approx(curvature, rel=1e-10)


def test_fit_uses_the_shells_it_is_given():
    """Only the chosen shells enter, and the free intercept never looks at the constant mode."""
    values = quadratic([1.0], [4.0])
    spoiled = values.copy()
    spoiled[:, 4:] = 77
    assert fit_dispersion(spoiled, K).length[0] == pytest.approx(2, rel=1e-12)
    spoiled[:, 0] = -5
    assert fit_dispersion(spoiled, K, "free").length[0] == pytest.approx(2, rel=1e-10)
    values[:, 2:4] = 77
    values[:, 6] = -3
    assert fit_dispersion(values, K, "free", shells=(1, 4, 5)).length[0] == pytest.approx(2, rel=1e-10)


def test_fit_of_the_drift_normalises_like_equation_69():
    """Dividing lambda_n by lambda_0 first and fitting xi^2 k^2 to the ratio minus 1 gives the same length."""
    values = quadratic([0.7, 3.0], [2.0, 1.0]) + 0.01 * np.random.default_rng(1).normal(size=(2, 7, 2))
    rate = values[:, 0].mean(1)
    ratio = values / rate[:, None, None] - 1
    square = K[1:4] ** 2
    expected = (ratio[:, 1:4] * square).sum((1, 2)) / (square**2).sum()
    np.testing.assert_allclose(fit_dispersion(values, K).length ** 2, expected, rtol=1e-10)


@intercepts
def test_lengths_are_undefined_where_the_ratio_has_no_meaning(intercept):
    """NaN where lambda_0 <= 0 or the curvature is negative; a growing edge only where lambda_0 < 0 < curvature."""
    rate, curvature = np.array([1.0, -1.0, -2.0, 1.0, 0.0, np.nan]), np.array([4.0, 4.0, -1.0, -1.0, 1.0, 1.0])
    fit = fit_dispersion(quadratic(rate, curvature), K, intercept)
    np.testing.assert_allclose(fit.length[:4], [2, np.nan, np.nan, np.nan], rtol=1e-9)
    np.testing.assert_allclose(fit.growing_edge[:4], [np.nan, 0.5, np.nan, np.nan], rtol=1e-9)
    assert np.isnan(fit.length[5])
    assert np.isnan(fit.growing_edge[5])
    exact = Dispersion(rate, curvature)
    assert np.isnan(exact.length[4])
    assert exact.growing_edge[4] == 0


def test_growing_modes_lie_below_the_edge():
    """lambda(k) changes sign at the growing edge."""
    rate, curvature = np.array([-0.3]), np.array([2.0])
    edge = Dispersion(rate, curvature).growing_edge[0]
    assert rate[0] + curvature[0] * (0.99 * edge) ** 2 < 0 < rate[0] + curvature[0] * (1.01 * edge) ** 2


def test_softness_is_bounded():
    """log(1 + xi^2) up to the longest length, which also stands for lambda_0 <= 0; 0 for curvature <= 0; NaN stays."""
    rate = np.array([1.0, 1e-6, 0.0, -1.0, 1.0, -1.0, 1.0, np.nan, 1.0])
    curvature = np.array([4.0, 4.0, 1.0, 1.0, 0.0, -1.0, -1.0, 1.0, np.nan])
    top = math.log1p(12.0**2)
    expected = [math.log1p(4), top, top, top, 0, 0, 0, np.nan, np.nan]
    np.testing.assert_allclose(Dispersion(rate, curvature).softness(12.0), expected, rtol=1e-12)


def test_equation_64_as_printed_gives_a_negative_square():
    """|1|^2 = N but |cos|^2 = N / 2: unnormalised, xi^2 < 0; normalised, it is c_Omega / (sigma^2 - |Omega|)."""
    L, sigma, field = 40, 12.0, ReceptiveField.box(5, 2)
    lattice, x = Lattice((L, L)), torch.zeros(1, 1, L, L, dtype=torch.float64)
    rates = (1 - exact_gains(TwoStatePatch(field), x, sigma, 6)).numpy()
    k = lattice.wavenumbers(6).numpy()
    printed = rates * np.where(k > 0, L * L / 2, L * L)
    fit = fit_dispersion(printed, k)
    assert fit.curvature[0] < 0
    assert np.isnan(fit.length[0])
    assert fit_dispersion(rates, k).length[0] ** 2 == pytest.approx(25 / (sigma**2 - 25), rel=0.1)


def test_smoothing_keeps_constants_and_lines():
    """A constant is kept everywhere, a line in log t in the interior of a uniform grid, to rounding."""
    t = grid()
    u = np.log(t)
    np.testing.assert_allclose(smooth(np.full_like(u, 3.0), t), 3.0, rtol=1e-12)
    inside = (u > u.min() + 8 * SMOOTHING) & (u < u.max() - 8 * SMOOTHING)
    np.testing.assert_allclose(smooth(2 - 5 * u, t)[inside], (2 - 5 * u)[inside], atol=1e-10)


@pytest.mark.parametrize("width", [0.15, 0.4])
def test_smoothing_is_a_gaussian_of_the_stated_width(width):
    """A Gaussian bump of width w comes out with sqrt(w^2 + width^2), and cos(q u) damped by exp(-q^2 width^2 / 2)."""
    t = grid()
    u = np.log(t)
    wide = math.hypot(0.3, width)
    found = smooth(np.exp(-0.5 * (u / 0.3) ** 2), t, width)
    np.testing.assert_allclose(found, 0.3 / wide * np.exp(-0.5 * (u / wide) ** 2), atol=1e-6)
    inside = np.abs(u) < 1.0
    found = smooth(np.cos(2 * u), t, width)[inside]
    np.testing.assert_allclose(found, math.exp(-2 * width**2) * np.cos(2 * u)[inside], atol=1e-6)


def uneven(points):
    """Return a grid from 5 to 0.05 with one stretch sampled more densely, every spacing shrinking as 1 / points."""
    s = np.linspace(0, 1, points)
    u = np.interp(s, [0, 0.3, 0.7, 1], [math.log(5), 0.7, 0.2, math.log(0.05)])
    return np.exp(u)


def test_a_dense_stretch_does_not_count_twice():
    """On an uneven grid the smoothed curve is the uniform grid's, and converges with second order up to the ends."""
    fine = grid(2001, 5.0, 0.05)

    def curve(t):
        return np.log(t) + np.tanh(3 * np.log(t))

    reference = smooth(curve(fine), fine)
    errors = []
    for points in (101, 201, 401):
        t = uneven(points)
        exact = np.interp(-np.log(t), -np.log(fine), reference)
        errors.append(np.abs(smooth(curve(t), t) - exact).max())
    assert errors[-1] < 5e-4
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("times", [grid(), uneven(301)], ids=["uniform", "uneven"])
def test_growth_rate_of_a_line(times):
    """xi = a - b log t grows at rate b, exactly so in the interior of a uniform grid, for many curves at once."""
    u = np.log(times)
    rate = np.array([[2.0], [-0.5], [0.0]])
    found = growth_rate(7 - rate * u, times)
    inside = (u > u.min() + 8 * SMOOTHING) & (u < u.max() - 8 * SMOOTHING)
    uniform = np.ptp(np.diff(u)) < 1e-9
    np.testing.assert_allclose(found[:, inside], np.broadcast_to(rate, found.shape)[:, inside],
                               atol=1e-9 if uniform else 0.02)  # fmt: skip


def test_growth_rate_of_an_error_function():
    """A smoothed step of width w grows like a Gaussian of width sqrt(w^2 + smoothing^2), centred on the step."""
    from scipy.special import erf

    t = grid(1001)
    u, centre, width = np.log(t), 0.4, 0.5
    found = growth_rate(10 - 5 * erf((u - centre) / (math.sqrt(2) * width)), t)
    wide = math.hypot(width, SMOOTHING)
    expected = 10 / (math.sqrt(2 * math.pi) * wide) * np.exp(-0.5 * ((u - centre) / wide) ** 2)
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.max())
    assert math.log(peak_time(found, t)) == pytest.approx(centre, abs=0.006)


def test_derivative_is_of_second_order():
    """The growth rate's own error falls with the square of the grid spacing."""
    errors = []
    for points in (101, 201, 401):
        t = grid(points, 5.0, 0.05)
        u = np.log(t)
        inside = np.abs(u) < 0.5
        expected = 2 * math.exp(-2 * SMOOTHING**2) * np.sin(2 * u)
        errors.append(np.abs(growth_rate(np.cos(2 * u), t) - expected)[inside].max())
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.1)


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


def bump(u, centre, height=1.0, width=0.3):
    return height * np.exp(-0.5 * ((u - centre) / width) ** 2)


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
