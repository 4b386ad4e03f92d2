"""From measured curves to critical quantities: xi_eq, growth, crossings, peaks, onset, each with its uncertainty.

Curves run along falling times; a feature's position is interpolated in log t.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.signal import find_peaks, peak_widths

from softmode.estimate import Array, Estimate, bootstrap, median

Feature = Callable[[Array, Array], Array | float]

# shells of the fit in Eq. 69
FIT_SHELLS = (1, 2, 3)
# width of the Gaussian kernel in log t; the paper (E.7) gives none. 0.15 is three measured points of its grid
SMOOTHING = 0.15
# least prominence of a peak of the softness log(1 + xi_eq^2): a factor 1.35 in 1 + xi_eq^2
PROMINENCE = 0.3
# the same for a curve that stays low, as a share of its highest value
PEAK_SHARE = 0.25
# a peak's window ends where the curve has fallen by this share of the peak's prominence: half, as for a width
WINDOW_SHARE = 0.5
# the onset of growth is where the growth rate first reaches this share of its peak
ONSET_SHARE = 0.1


class Dispersion(NamedTuple):
    r"""Low-frequency dispersion $\lambda(k) \approx \lambda_0 + b k^2$, both of any shape [...].

    Attributes:
        rate: Restoring rate of the constant mode, lambda_0.
        curvature: Coefficient b of k^2.
    """

    rate: Array
    curvature: Array

    @property
    def length(self) -> Array:
        r"""$\xi_{\mathrm{eq}} = \sqrt{b/\lambda_0}$ (sites); NaN where lambda_0 <= 0 or b < 0.

        Source: paper Eqs. 68, 69 (and 13).
        """
        return _root_of_ratio(self.curvature, self.rate)

    @property
    def growing_edge(self) -> Array:
        r"""$k^* = \sqrt{-\lambda_0/b}$ (radians per site): modes below it grow; NaN unless lambda_0 <= 0 < b."""
        return _root_of_ratio(-self.rate, self.curvature)

    def softness(self, longest: float) -> Array:
        r"""Return $\log(1 + \xi_{\mathrm{eq}}^2)$, bounded: an order parameter for finding peaks of xi_eq.

        Lengths end at `longest`, which also stands where the constant mode is unstable and xi_eq has diverged; where
        the curvature is negative no length is left and the softness is 0.

        Args:
            longest: Longest length that the lattice can carry, half its side (sites).
        """
        length = np.where(self.curvature <= 0, 0.0, np.where(self.rate <= 0, longest, self.length))
        return np.log1p(np.minimum(length, longest) ** 2)


def _root_of_ratio(above: Array, below: Array) -> Array:
    defined = (above >= 0) & (below > 0)
    return np.sqrt(np.where(defined, above, np.nan) / np.where(defined, below, 1.0))


def fit_dispersion(
    values: Array,
    k: Array,
    intercept: Literal["constant mode", "free"] = "constant mode",
    shells: tuple[int, ...] = FIT_SHELLS,
) -> Dispersion:
    r"""Fit $\lambda_n = \lambda_0 + b k_n^2$ to the lowest shells by least squares.

    Args:
        values: Restoring rates of the modes, [..., shell, axis]: drift eigenvalues lambda_n (the paper's convention) or
            1 - G_n (convention-free).
        k: Wavenumbers [shell, axis] (radians per site).
        intercept: Whether lambda_0 is the measured constant mode, as in Eq. 69, or fitted from shells n >= 1 alone,
            which never uses the constant mode: a trained network may get that mode wrong at low noise.
        shells: Shells of the fit, at least two if the intercept is free; all their axes enter.

    Source: paper Eqs. 67-69 (and 13), where dividing by lambda_0 gives xi_eq^2 = b / lambda_0.
    """
    n = list(shells)
    square, y = k[n] ** 2, values[..., n, :]
    if intercept == "constant mode":
        rate = values[..., 0, :].mean(-1)
        curvature = ((y - rate[..., None, None]) * square).sum((-1, -2)) / (square**2).sum()
    else:
        centred = square - square.mean()
        curvature = (y * centred).sum((-1, -2)) / (centred**2).sum()
        rate = y.mean((-1, -2)) - curvature * square.mean()
    return Dispersion(rate, curvature)


def smooth(curve: Array, times: Array, width: float = SMOOTHING) -> Array:
    """Return curves [..., time] averaged with a Gaussian kernel of standard deviation `width` in log t."""
    u = np.log(times)
    kernel = np.exp(-0.5 * ((u[:, None] - u) / width) ** 2)
    # trapezoidal weights: a densely sampled stretch must not count twice
    weights = np.abs(np.gradient(u))
    weights[[0, -1]] /= 2
    kernel *= weights
    return np.asarray(curve @ (kernel / kernel.sum(1, keepdims=True)).T)


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
    return np.asarray(-np.gradient(smooth(xi, times, smoothing), np.log(times), axis=-1))


def crossing_times(curve: Array, times: Array) -> Array:
    """Return the times, falling, at which a curve changes sign, by linear interpolation in log t.

    A curve that touches zero and turns back does not cross it; neither does one that is undefined in between.
    """
    u, before, after = np.log(times), curve[:-1], curve[1:]
    sign = np.sign(np.where(np.isfinite(curve), curve, np.nan))
    # an exact zero carries the sign that the curve had before it
    sign = sign[np.maximum.accumulate(np.where(sign != 0, np.arange(len(sign)), 0))]
    i = np.flatnonzero(sign[:-1] * sign[1:] < 0)
    return np.exp(u[i] + (u[i + 1] - u[i]) * before[i] / (before[i] - after[i]))


def lasting_crossings(curve: Array, times: Array) -> Array:
    """Return the crossing times, falling, without excursions shorter than the smoothing width in log t.

    Neighbouring crossings closer than SMOOTHING cancel in pairs, the closest first: noise about zero crosses an odd
    number of times where the curve itself crosses once.

    Args:
        curve: Values [time], NaN where undefined.
        times: Falling times [time].
    """
    crossings = crossing_times(curve, times)
    while len(crossings) > 1:
        gaps = -np.diff(np.log(crossings))
        closest = int(gaps.argmin())
        if gaps[closest] >= SMOOTHING:
            break
        crossings = np.delete(crossings, [closest, closest + 1])
    return crossings


def peak_times(curve: Array, times: Array) -> Array:
    """Return the times, falling, of all peaks of the smoothed curve that stand out.

    A peak's prominence, its height above the higher of the two valleys that separate it from higher ground, must reach
    PROMINENCE, or PEAK_SHARE of the curve's highest value where that is less. The ends of the time grid are never
    peaks; the middle of a plateau stands for it.

    Args:
        curve: Values [time], finite; the softness of a dispersion.
        times: Falling times [time].
    """
    smoothed, found = _prominent(curve, times)
    return np.array([_vertex(smoothed, times, int(i)) for i in found])


def peak_windows(curve: Array, times: Array) -> Array:
    """Return every peak of `peak_times` with its window, [peak, 3]: the peak, where the window begins, where it ends.

    Inside the window the smoothed curve is above the peak's height less WINDOW_SHARE of its prominence.

    Args:
        curve: Values [time], finite.
        times: Falling times [time].
    """
    smoothed, found = _prominent(curve, times)
    _, _, first, last = peak_widths(smoothed, found, WINDOW_SHARE)
    index, u = np.arange(len(times)), np.log(times)
    ends = [np.exp(np.interp(at, index, u)) for at in (first, last)]
    return np.stack([[_vertex(smoothed, times, int(i)) for i in found], *ends], 1).reshape(-1, 3)


def highest_window(curve: Array, times: Array) -> Array:
    """Return (peak, begin, end) of the highest of `peak_windows`; NaN without any.

    Source: paper H.3, the argmax, among peaks: at low noise a network's constant mode may lift the curve's end higher.
    """
    windows = peak_windows(curve, times)
    if len(windows) == 0:
        return np.full(3, np.nan)
    heights = np.interp(-np.log(windows[:, 0]), -np.log(times), smooth(curve, times))
    return np.asarray(windows[heights.argmax()])


def prominences(curve: Array, times: Array) -> Array:
    """Return the prominence of the smoothed curve's peak at each time, [time]: 0 where there is none."""
    smoothed = np.round(smooth(curve, times), 9)
    found, how = find_peaks(smoothed, prominence=0)
    heights = np.zeros(len(times))
    heights[found] = how["prominences"]
    return heights


def _prominent(curve: Array, times: Array) -> tuple[Array, Array]:
    """Return the smoothed curve and the indices of its peaks that stand out."""
    # rounded, or the last digits of a long plateau would make several peaks of it
    smoothed = np.round(smooth(curve, times), 9)
    found, _ = find_peaks(smoothed, prominence=min(PROMINENCE, PEAK_SHARE * smoothed.max()))
    return smoothed, found


def peak_time(curve: Array, times: Array) -> float:
    """Return the time of a curve's largest value; NaN if it is nowhere defined."""
    return _vertex(curve, times, int(np.nanargmax(curve))) if np.isfinite(curve).any() else math.nan


def _vertex(curve: Array, times: Array, i: int) -> float:
    """Return the vertex of the parabola in log t through the highest point i and its neighbours, or t_i without one."""
    if not 0 < i < len(curve) - 1:
        return float(times[i])
    u, y = np.log(times[i - 1 : i + 2]), curve[i - 1 : i + 2]
    before, after = (y[1] - y[0]) / (u[1] - u[0]), (y[2] - y[1]) / (u[2] - u[1])
    bend = (after - before) / (u[2] - u[0])
    if not bend < 0:
        return float(times[i])
    return float(np.exp(0.5 * (u[0] + u[1]) - 0.5 * before / bend))


def onset_time(growth: Array, times: Array, share: float = ONSET_SHARE) -> float:
    """Return the time, before the fastest growth, at which the growth rate last rose through a share of its peak.

    Args:
        growth: Growth rates [time].
        times: Falling times [time].
        share: Share of the peak growth rate.

    Returns:
        The time, interpolated in log t; NaN if the growth rate was not below the share before its peak, as far back
        as it is defined without a gap.
    """
    if not np.isfinite(growth).any():
        return math.nan
    top = int(np.nanargmax(growth))
    gaps = np.flatnonzero(np.isnan(growth[:top]))
    before = slice(gaps[-1] + 1 if len(gaps) else 0, top + 1)
    rises = crossing_times(growth[before] - share * growth[top], times[before])
    return float(rises[-1]) if len(rises) else math.nan


def undefined_bands(curve: Array, times: Array) -> list[tuple[float, float]]:
    """Return the maximal stretches of time (first, last; falling) in which a curve is NaN."""
    edges = np.diff(np.concatenate([[False], np.isnan(curve), [False]]).astype(int))
    return [
        (float(times[start]), float(times[stop - 1]))
        for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    ]


def estimate_times(curves: Array, times: Array, feature: Feature) -> list[Estimate]:
    """Estimate the times of a feature of the median curve, each with a bootstrap interval over trajectories.

    A resample's features are matched to the full set's by the nearest in log t; one that is farther than half the way
    to another feature counts as missing.

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
