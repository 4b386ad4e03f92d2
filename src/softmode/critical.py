"""From measured curves to critical quantities: xi_eq, growth, crossings, peaks, onset, each with its uncertainty.

Curves run along falling times; a feature's position is interpolated in log t.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.signal import find_peaks

from softmode.estimate import Array, Estimate, bootstrap, median

# shells of the fit in Eq. 69
FIT_SHELLS = (1, 2, 3)
# width of the Gaussian kernel in log t; the paper (E.7) gives none. 0.15 is three measured points of its grid
SMOOTHING = 0.15
# least prominence of a peak relative to its height
PROMINENCE = 0.1
# the onset of growth is where the growth rate first reaches this share of its peak
ONSET_SHARE = 0.1


class Dispersion(NamedTuple):
    """What a fit of a low-frequency dispersion gives, each [...]; NaN where undefined.

    Attributes:
        length: xi_eq (sites).
        edge: Where the constant mode is unstable, the largest growing wavenumber k* (radians per site).
    """

    length: Array
    edge: Array


def fit_dispersion(values: Array, k: Array, shells: tuple[int, ...] = FIT_SHELLS) -> Dispersion:
    r"""Fit $\lambda_n/\lambda_0 = 1 + \xi_{\mathrm{eq}}^2 k_n^2$ through the constant mode by least squares.

    Args:
        values: Restoring rates of the modes, [..., shell, axis]: drift eigenvalues lambda_n (the paper's convention) or
            1 - G_n (convention-free; the same up to a factor and, for drifts with a linear term, a constant).
        k: Wavenumbers [shell, axis] (radians per site).
        shells: Shells of the fit; all their axes enter.

    Returns:
        xi_eq [...], NaN where lambda_0 <= 0 or the curvature is negative: the ratio then means nothing. Where lambda_0 < 0
        and the curvature is positive, the modes below k* = sqrt(|lambda_0| / curvature) grow.

    Source: paper Eqs. 67-69 (and 13).
    """
    at_zero = values[..., 0, :].mean(-1)
    n = list(shells)
    square = k[n] ** 2
    rise = values[..., n, :] - at_zero[..., None, None]
    curvature = (rise * square).sum((-1, -2)) / (square**2).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        length = np.sqrt(np.where((at_zero > 0) & (curvature >= 0), curvature / at_zero, np.nan))
        edge = np.sqrt(np.where((at_zero < 0) & (curvature > 0), -at_zero / curvature, np.nan))
    return Dispersion(length, edge)


def fit_dispersion_free(values: Array, k: Array, shells: tuple[int, ...] = FIT_SHELLS) -> Array:
    r"""Fit $a + b k_n^2$ with a free intercept over shells n >= 1 and return $\xi_{\mathrm{eq}} = \sqrt{b/a}$.

    Unlike `fit_dispersion` it never uses the constant mode, which a trained network may get wrong at low noise.

    Args:
        values: As for `fit_dispersion`, [..., shell, axis].
        k: Wavenumbers [shell, axis] (radians per site).
        shells: Shells of the fit, at least two.

    Returns:
        xi_eq [...] (sites); NaN unless a > 0 and b >= 0.
    """
    n = list(shells)
    square = k[n] ** 2
    y = values[..., n, :]
    centred = square - square.mean()
    slope = (y * centred).sum((-1, -2)) / (centred**2).sum()
    intercept = y.mean((-1, -2)) - slope * square.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(np.where((intercept > 0) & (slope >= 0), slope / intercept, np.nan))


def growth_rate(xi: Array, times: Array, smoothing: float = SMOOTHING) -> Array:
    r"""Return $-d\xi_x/d\log t$ of the Gaussian-smoothed curve: positive where correlations grow during generation.

    Args:
        xi: Correlation lengths [..., time] (sites).
        times: Falling times [time].
        smoothing: Standard deviation of the Gaussian kernel, in log t.

    Returns:
        Growth rates [..., time] (sites per e-fold of time).

    Source: paper E.7.
    """
    u = np.log(times)
    kernel = np.exp(-0.5 * ((u[:, None] - u) / smoothing) ** 2)
    # trapezoidal weights: the kernel must not count densely sampled stretches twice
    kernel *= np.abs(np.gradient(u))
    smooth = xi @ (kernel / kernel.sum(1, keepdims=True)).T
    growth: Array = -np.gradient(smooth, u, axis=-1)
    return growth


def crossing_times(curve: Array, times: Array) -> Array:
    """Return the times, falling, at which a curve changes sign, by linear interpolation in log t."""
    u, before, after = np.log(times), curve[:-1], curve[1:]
    i = np.flatnonzero(((before > 0) != (after > 0)) & np.isfinite(before) & np.isfinite(after))
    return np.exp(u[i] + (u[i + 1] - u[i]) * before[i] / (before[i] - after[i]))


def peak_times(curve: Array, times: Array, prominence: float = PROMINENCE) -> Array:
    """Return the times, falling, of all peaks whose prominence is at least a share of their height.

    An undefined band counts as the curve's lowest value, so a curve that rises without bound into the band has a peak at
    its edge. The ends of the time grid are never peaks.

    Args:
        curve: Values [time], NaN where undefined.
        times: Falling times [time].
        prominence: Least prominence relative to the peak's height above the curve's lowest value.
    """
    defined = np.isfinite(curve)
    if not defined.any():
        return np.array([])
    floor = curve[defined].min()
    height = np.where(defined, curve - floor, 0.0)
    found, properties = find_peaks(height, prominence=0)
    return times[found[properties["prominences"] >= prominence * height[found]]]


def peak_time(curve: Array, times: Array) -> float:
    """Return the time of a curve's largest value; NaN if it is nowhere defined."""
    return float(times[np.nanargmax(curve)]) if np.isfinite(curve).any() else math.nan


def onset_time(growth: Array, times: Array, share: float = ONSET_SHARE) -> float:
    """Return the time, before the fastest growth, at which the growth rate last rose through a share of its peak.

    Args:
        growth: Growth rates [time].
        times: Falling times [time].
        share: Share of the peak growth rate.

    Returns:
        The time, interpolated in log t; NaN if the growth rate never was below the share before its peak.
    """
    if not np.isfinite(growth).any():
        return math.nan
    top = int(np.nanargmax(growth))
    rises = crossing_times(growth[: top + 1] - share * growth[top], times[: top + 1])
    return float(rises[-1]) if len(rises) else math.nan


def undefined_bands(curve: Array, times: Array) -> list[tuple[float, float]]:
    """Return the maximal stretches of time (first, last; falling) in which a curve is NaN."""
    edges = np.diff(np.concatenate([[False], np.isnan(curve), [False]]).astype(int))
    return [
        (float(times[start]), float(times[stop - 1]))
        for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    ]


def estimate_times(curves: Array, times: Array, feature: Callable[[Array, Array], Array | float]) -> list[Estimate]:
    """Estimate the times of a feature of the median curve, each with a bootstrap interval over trajectories.

    A resample's features are matched to the full set's by the nearest in log t; one that is farther than half the way to
    another feature counts as missing.

    Args:
        curves: One curve per trajectory, [trajectory, time].
        times: Falling times [time].
        feature: Maps (curve, times) to the feature's times, for example `crossing_times` or `peak_time`.

    Returns:
        One estimate per feature of the median curve, in falling order of time; empty if it has none.
    """
    reference = np.atleast_1d(feature(median(curves), times))
    reference = reference[np.isfinite(reference)]
    if len(reference) == 0:
        return []
    u = np.log(reference)
    reach = np.full(len(u), np.inf)
    if len(u) > 1:
        gaps = np.abs(u[:, None] - u) + np.where(np.eye(len(u), dtype=bool), np.inf, 0)
        reach = gaps.min(1) / 2

    def matched(curve: Array) -> Array:
        found = np.atleast_1d(feature(curve, times))
        found = np.log(found[np.isfinite(found)])
        if len(found) == 0:
            return np.full(len(u), np.nan)
        nearest = found[np.abs(found[:, None] - u).argmin(0)]
        return np.where(np.abs(nearest - u) <= reach, np.exp(nearest), np.nan)

    return bootstrap(curves, matched)
