"""From which noise level down 1 - G is lost in its own error, so that no length can be fitted to it."""

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from softmode.critical import fit_dispersion
from softmode.estimate import Array
from softmode.runs.run import Run

# errors by which 1 - G must be above 0
RESOLVED = 4.0
# neighbouring times whose variances are averaged: those of few trajectories are hardly known; an odd number
POOLED = 5


def resolved_times(run: Run, intercept: Literal["constant mode", "free"] = "constant mode") -> int:
    """Return how many measured times, from the first on, come before the low noise where lambda_0 is lost in its error.

    Args:
        run: A run with mode gains.
        intercept: How lambda_0 = 1 - G_0 is found; see `fit_dispersion`.

    Returns:
        All of them for gains in closed form.
    """
    data = run.dataset
    if "gain_change" not in data:
        return data.sizes["time"]
    k = data["k"].to_numpy()
    gain, change = data["gain"].to_numpy(), data["gain_change"].to_numpy()
    return resolved(fit_dispersion(1 - gain, k, intercept).rate, systematic(fit_dispersion(-change, k, intercept).rate))


def resolved(rate: Float[Array, "trajectory time"], wrong: Float[Array, " time"] | float = 0.0) -> int:
    """Return how many times come before the last stretch in which the mean rate is lost in its error.

    There 1 - G is below the rounding of a network's answer, which looks like a softening.

    Args:
        rate: lambda_0 of every trajectory.
        wrong: How far all of them may be off together.
    """
    if len(rate) < 2:
        return rate.shape[1]
    wide = np.pad(rate.var(0, ddof=1), POOLED // 2, mode="edge")
    error = np.hypot(np.sqrt(sliding_window_view(wide, POOLED).mean(1) / len(rate)), wrong)
    seen = np.flatnonzero(rate.mean(0) > RESOLVED * error)
    return int(seen[-1]) + 1 if len(seen) else 0


def systematic(change: Float[Array, "trajectory time *mode"]) -> Float[Array, "time *mode"]:
    """Return how far gains are off together at each time: their mean change when the step of the difference is doubled.

    An error of second order in the step changes by three times itself, one of rounding by about itself.

    Args:
        change: Changes of gains; NaN where none was measured, where it is interpolated; 0 where none was at all.
    """
    mean = np.abs(change.mean(0))
    place, flat = np.arange(len(mean)), mean.reshape(len(mean), -1)
    known = np.isfinite(flat[:, 0])
    if not known.any():
        return np.zeros_like(mean)
    return np.stack([np.interp(place, place[known], each[known]) for each in flat.T], 1).reshape(mean.shape)
