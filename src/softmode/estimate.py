"""A measured number with its uncertainty, and the bootstrap over trajectories that gives it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv

Array = np.ndarray

RESAMPLES = 1000
# half the width of a normal 95 % interval, in standard deviations
NORMAL_95 = 1.96
# relative standard error below which it is not one of sampling: what does not vary counts no standard errors
LEAST_ERROR = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and interval.

    Args:
        value: The estimate; NaN where undefined, with a reason.
        stderr: Standard error; 0 for an exact number, NaN where unknown.
        samples: Number of independent samples behind it; 0 for an exact number.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        reason: Why it, or its interval, is undefined or doubtful; empty otherwise.
    """

    value: float
    stderr: float = 0.0
    samples: int = 0
    low: float = math.nan
    high: float = math.nan
    reason: str = ""

    @classmethod
    def exact(cls, value: float, reason: str = "") -> "Estimate":
        """Return a number known without sampling error."""
        return cls(value, 0.0, 0, value, value, reason)

    @classmethod
    def missing(cls, samples: int, reason: str) -> "Estimate":
        """Return a number that could not be found, and why."""
        return cls(math.nan, math.nan, samples, reason=reason)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Estimate":
        """Return the estimate that `plain` wrote; null becomes NaN."""
        numbers = {n: math.nan if plain[n] is None else float(plain[n]) for n in ("value", "stderr", "low", "high")}
        return cls(**numbers, samples=int(plain["samples"]), reason=str(plain["reason"]))

    def plain(self) -> dict[str, Any]:
        """Return the estimate as JSON's own types; NaN and infinity become null."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}

    def errors_from(self, other: float) -> float:
        """Return the distance from a known value in standard errors; NaN where the error is only rounding's."""
        apart = self.value - other
        return apart / self.stderr if self.stderr > LEAST_ERROR * max(abs(self.value), abs(other)) else math.nan

    @property
    def interval(self) -> str:
        """The 95 % interval in brackets; `exact` of an exact number, nothing where there is none."""
        if self.samples == 0 and math.isfinite(self.value):
            return "exact"
        return f"[{self.low:.3g}, {self.high:.3g}]" if math.isfinite(self.low) and math.isfinite(self.high) else ""

    def __str__(self) -> str:
        """Return the value with its standard error in parentheses on the last digits, 1.234(5)."""
        if math.isnan(self.value):
            return f"undefined ({self.reason})" if self.reason else "undefined"
        if self.stderr <= 1e-7 * abs(self.value) or not math.isfinite(self.stderr):
            return f"{self.value:.4g}(?)" if not math.isfinite(self.stderr) else f"{self.value:#.5g}"
        digit, exponent = (int(part) for part in f"{self.stderr:.0e}".split("e"))
        if exponent <= 0:
            return f"{self.value:.{-exponent}f}({digit})"
        return f"{round(self.value, -exponent):.0f}({digit * 10**exponent})"


def bootstrap(
    curves: Array,
    statistic: Callable[[Array], Array],
    resamples: int = RESAMPLES,
    seed: int = 0,
    centre: Callable[[Array], Array] | None = None,
    groups: Sequence[int] = (),
) -> list[Estimate]:
    """Estimate numbers computed from the median curve, with a percentile bootstrap over trajectories.

    Args:
        curves: One curve per trajectory, [trajectory, ...].
        statistic: Maps a median curve [...] to numbers [number]; NaN where one is undefined. In a resample its numbers
            must come in the same order as for all trajectories.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.
        centre: What stands for the curves [trajectory, ...] in place of their median, for example their mean.
        groups: Group of each trajectory, such as its class, within which it is resampled; all one when left out.

    Returns:
        One estimate per number: its value on the median over all trajectories, the standard deviation over resamples
        and the 2.5 % and 97.5 % percentiles. With fewer than two trajectories the error is NaN; with n of them no
        interval of a median covers more than 1 - 2^(1-n), 88 % for the paper's 4.

    Source: efron1993.
    """
    centre = centre or median
    trajectories = curves.shape[0]
    values = np.atleast_1d(statistic(centre(curves)))
    if trajectories < 2:
        return [_alone(float(v), trajectories) for v in values]
    draws = bootstrap_draws(trajectories, groups, resamples, seed)
    replicates = np.stack([np.atleast_1d(statistic(centre(curves[draw]))) for draw in draws])
    return [from_replicates(float(v), replicates[:, i], trajectories) for i, v in enumerate(values)]


def bootstrap_mean(
    columns: Array, statistic: Callable[[Array], Array], resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Estimate a number computed from means over trajectories, as `bootstrap` does, all resamples at once.

    Args:
        columns: What is averaged, [trajectory, column].
        statistic: Maps means [resample, column] to numbers [resample]; NaN where one is undefined.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.

    Source: efron1993.
    """
    value = float(statistic(columns.mean(0, keepdims=True))[0])
    if len(columns) < 2:
        return _alone(value, len(columns))
    draws = bootstrap_draws(len(columns), resamples=resamples, seed=seed)
    return from_replicates(value, statistic(columns[draws].mean(1)), len(columns))


def of_mean(values: Array) -> Estimate:
    """Return the mean of independent numbers [sample], with the normal interval of its standard error."""
    count, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, error, count, mean - NORMAL_95 * error, mean + NORMAL_95 * error)


def of_share(hits: int, count: int) -> Estimate:
    """Return a share of independent cases with its exact binomial 95 % interval; undefined of none.

    Source: clopper1934.
    """
    if not count:
        return Estimate.missing(0, "none of that kind")
    share = hits / count
    low = float(betaincinv(hits, count - hits + 1, 0.025)) if hits else 0.0
    high = float(betaincinv(hits + 1, count - hits, 0.975)) if hits < count else 1.0
    return Estimate(share, math.sqrt(share * (1 - share) / count), count, low, high)


def _alone(value: float, trajectories: int) -> Estimate:
    return Estimate(value, math.nan, trajectories, reason="one trajectory has no error bar")


def bootstrap_draws(count: int, groups: Sequence[int] = (), resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Return which trajectories are in each resample, [resample, drawn].

    Of n in a group n - 1 are drawn: n of them would have (n - 1)/n of the variance, which counts in small groups. Where
    a group has one alone, which has no spread, groups are left out: the error then holds what differs between them.

    Args:
        count: Number of trajectories.
        groups: Group of each, within which it is replaced; all one when left out, of which as many are drawn.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Source: efron1993; rao1988 for groups.
    """
    rng = np.random.default_rng(seed)
    if len(groups) == 0 or np.unique(np.asarray(groups), return_counts=True)[1].min() < 2:
        return rng.integers(count, size=(resamples, count))
    kinds, draws = np.asarray(groups), list[Array]()
    for kind in np.unique(kinds):
        (own,) = np.nonzero(kinds == kind)
        draws.append(own[rng.integers(len(own), size=(resamples, len(own) - 1))])
    return np.concatenate(draws, 1)


def from_replicates(value: float, replicates: Array, samples: int) -> Estimate:
    """Return a value with the spread and the percentiles of its bootstrap replicates; NaN ones were not found.

    Args:
        value: The value of all samples.
        replicates: The same of every resample, [resample].
        samples: Number of independent samples.

    Source: efron1993.
    """
    found = replicates[np.isfinite(replicates)]
    if math.isnan(value) or len(found) < 2:
        return Estimate(value, math.nan, samples, reason="not found")
    low, high = np.percentile(found, [2.5, 97.5])
    share = len(found) / len(replicates)
    reason = f"found in {100 * share:.0f} % of bootstrap resamples" if share < 0.95 else ""
    return Estimate(value, float(found.std(ddof=1)), samples, float(low), float(high), reason)


def median(curves: Array) -> Array:
    """Return the median over the trajectories where a curve is defined; NaN unless that is more than half of them."""
    defined = ~np.isnan(curves)
    if defined.all():
        return np.asarray(np.median(curves, axis=0))
    mostly = 2 * defined.sum(0) > curves.shape[0]
    return np.where(mostly, np.nanmedian(np.where(mostly, curves, 0.0), axis=0), np.nan)


def jackknife(groups: int, statistic: Callable[[Array], float]) -> Estimate:
    """Estimate a number that is no mean, such as a distance of distributions, with a jackknife over groups of samples.

    Args:
        groups: Number of groups.
        statistic: Maps which groups are kept, bool [group], to the number.

    Returns:
        The number of all groups, with the standard error of leaving out one group at a time and a normal 95 % interval.

    Source: efron1993.
    """
    keep = np.ones(groups, bool)
    value = float(statistic(keep))
    if groups < 2:
        return Estimate(value, math.nan, groups, reason="one sample has no error bar")
    without = np.empty(groups)
    for i in range(groups):
        keep[i] = False
        without[i] = statistic(keep)
        keep[i] = True
    stderr = math.sqrt((groups - 1) / groups * float(((without - without.mean()) ** 2).sum()))
    return Estimate(value, stderr, groups, value - NORMAL_95 * stderr, value + NORMAL_95 * stderr)
