"""Fits of dispersions, and smoothed curves and their growth."""

import math

import numpy as np
import pytest
import torch
from scipy.special import erf

from helpers.curves import grid, uneven
from helpers.dense import orders
from softmode.critical import (
    SMOOTHING,
    Dispersion,
    fit_dispersion,
    growth_rate,
    peak_time,
    smooth,
)
from softmode.exact.patch import TwoStatePatch
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.gains import exact_gains

INTERCEPTS = ("constant mode", "free")
intercepts = pytest.mark.parametrize("intercept", INTERCEPTS)
K = Lattice((24, 30)).wavenumbers(6).numpy()


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
    assert orders(errors).tolist() == pytest.approx([2, 2], abs=0.3)


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
    assert orders(errors).tolist() == pytest.approx([2, 2], abs=0.1)
