"""Information along the noise levels: cumulative curves, their rates, and the shortest interval that gains a share."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from softmode.estimate import Array, bootstrap_draws

# points between two levels at which an interval may end
FINE = 16


class Interval(NamedTuple):
    """An interval of noise levels.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        half: Level by which half of all is gained, from the highest down.
    """

    low: float
    high: float
    half: float


def shortest(curve: Float[Array, " level"], levels: Float[Array, " level"], share: float) -> Interval:
    """Return the shortest interval of log sigma over which a share of all that is gained is gained.

    What is known at the first level already is gained nowhere.

    Args:
        curve: What is known down to each level, interpolated in the logarithm of the level.
        levels: Falling noise levels.
        share: Share of what is gained from the first level to the last.

    Returns:
        NaN where nothing is gained.
    """
    logs = np.log(levels)
    fine = np.linspace(logs[0], logs[-1], FINE * (len(logs) - 1) + 1)
    known = np.interp(fine, logs[::-1], curve[::-1]) - curve[0]
    total = known[-1]
    if not total > 0:
        return Interval(math.nan, math.nan, math.nan)
    ends = _first_ends(known, share * total)
    possible = np.flatnonzero(ends < len(known))
    widths = fine[possible] - fine[ends[possible]]
    begin = int(possible[np.argmin(widths)])
    half = fine[int(np.argmax(known >= total / 2))]
    return Interval(math.exp(fine[ends[begin]]), math.exp(fine[begin]), math.exp(half))


def _first_ends(known: Array, gain: float) -> Array:
    """Return for every beginning the first place after it by which so much more is known, or the number of places."""
    wanted, reached = known + gain, np.maximum.accumulate(known)
    ends = np.searchsorted(reached, wanted)
    # where the curve has fallen by as much, what was known before does not count
    for place in np.flatnonzero(wanted <= reached):
        enough = known[place:] >= wanted[place]
        ends[place] = place + int(enough.argmax()) if enough.any() else len(known)
    return np.asarray(ends)


def rates(curve: Float[Array, "*any level"], levels: Float[Array, " level"]) -> Float[Array, "*any step"]:
    """Return the gain of a cumulative curve per unit of log sigma between every two levels."""
    return np.diff(curve, axis=-1) / -np.diff(np.log(levels))


def accumulated(rate: Float[Array, "*any level"], levels: Float[Array, " level"]) -> Float[Array, "*any level"]:
    """Return the integral of a rate per unit of log sigma from the highest level down to each, by trapezoids."""
    steps = -np.diff(np.log(levels)) * (rate[..., 1:] + rate[..., :-1]) / 2
    return np.concatenate([np.zeros_like(rate[..., :1]), np.cumsum(steps, axis=-1)], axis=-1)


class Band(NamedTuple):
    """A mean curve with a band that holds all of it with 95 %.

    Attributes:
        mean: The mean.
        low: Lower edge.
        high: Upper edge.
    """

    mean: Array
    low: Array
    high: Array


def simultaneous(curves: Float[Array, "trajectory point"], groups: Sequence[int] = ()) -> Band:
    """Return the mean of curves with a simultaneous 95 % band, from a bootstrap over trajectories within groups.

    Source: the studentised maximum over a curve, efron1993 (Sec. 12).
    """
    mean = curves.mean(0)
    means = np.stack([curves[draw].mean(0) for draw in bootstrap_draws(len(curves), groups)])
    spread = means.std(0, ddof=1)
    away = np.abs(means - mean) / np.where(spread > 0, spread, np.inf)
    reach = float(np.quantile(away.max(1), 0.95))
    return Band(mean, mean - reach * spread, mean + reach * spread)
