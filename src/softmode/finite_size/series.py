r"""Time series at equilibrium: where it begins, how long it remembers, and the blocks that its errors are of.

The integrated autocorrelation time is $\tau = 1 + 2\sum_{s\ge1}\rho(s)$, in steps of the series: n steps are worth
$n/\tau$ independent ones, and the mean of n has the variance $\tau\,\mathrm{Var}/n$.
"""

import math
from typing import NamedTuple

import numpy as np
from emcee.autocorr import integrated_time
from jaxtyping import Float
from scipy.stats import t as student

from softmode.message import refusal

# a series shorter than this many autocorrelation times is not quoted; emcee's own default
LEAST_TIMES = 50
# the sum over the autocorrelation ends at this many autocorrelation times (Sokal)
WINDOW = 5
# autocorrelation times of a block: its mean then depends on the next one's by 1/20 of a variance
BLOCK_TIMES = 10
# blocks of a series at least; one of 50 autocorrelation times has four even where its blocks are made of coarse parts
LEAST_BLOCKS = 4
# a start is cut if it differs from the rest by what chance does this rarely: shorter cuts cost data and mend nothing
TRANSIENT = 0.01
# two means that differ by what chance does this rarely are not of one equilibrium
DISAGREEMENT = 1e-3

Series = Float[np.ndarray, "replica time"]


class Thermalised(NamedTuple):
    """Where series from two starts are at equilibrium, and whether that is one.

    Attributes:
        first: First step that is kept.
        apart: Mean from the one start less that from the other after it, in standard errors.
        drift: Mean over the later half of what is kept less that over the earlier one, in standard errors.
        degrees: Degrees of freedom of both.
    """

    first: int
    apart: float
    drift: float
    degrees: int

    @property
    def agrees(self) -> bool:
        """Whether both starts, and both halves, differ by no more than chance allows."""
        return min(chance(each, self.degrees) for each in (self.apart, self.drift)) >= DISAGREEMENT


def chance(errors: float, degrees: int) -> float:
    """Return the probability that a mean is so many of its standard errors from 0 or more, if 0 is the truth."""
    return float(2 * student.sf(abs(errors), degrees))


def equilibrium_start(series: Series) -> int:
    r"""Return the first step of a series that is at equilibrium, by the marginal standard error rule.

    Of the mean over replicas $y$, the first d steps are cut that make $\sum_{i\ge d}(y_i - \bar y_d)^2/(n - d)^2$
    least: the squared error of what is left of it. At most half is cut: whether the rest is at equilibrium then is for
    `thermalised` to say.

    Args:
        series: Means of an order parameter over equal times, five steps or more, of replicas from one start.

    Source: white1997.
    """
    y = series.mean(0) - series.mean()
    left = np.arange(len(y), 0, -1)
    total, square = (np.cumsum(values[::-1])[::-1] for values in (y, y**2))
    error = (square - total**2 / left) / left**2
    return int(np.argmin(error[: len(y) // 2 + 1]))


def thermalised(series: Float[np.ndarray, "replica start time"]) -> Thermalised:
    """Return from where on replicas from two starts are at equilibrium, and whether both starts say the same.

    The start of each is cut as `equilibrium_start` says, if what is cut differs from what is left by more than chance:
    else the rule, which cuts some per cent of any noise, would throw away data.

    Args:
        series: Means of an order parameter over equal times, five steps or more; replicas are independent.
    """
    degrees, first = len(series) - 1, 0
    for own in (series[:, start] for start in range(2)):
        cut = equilibrium_start(own)
        if cut and chance(_in_errors(own[:, :cut].mean(1) - own[:, cut:].mean(1)), degrees) < TRANSIENT:
            first = max(first, cut)
    kept = series[:, :, first:]
    middle = kept.shape[2] // 2
    apart = kept[:, 0].mean(1) - kept[:, 1].mean(1)
    drift = (kept[:, :, middle:].mean(2) - kept[:, :, :middle].mean(2)).mean(1)
    return Thermalised(first, _in_errors(apart), _in_errors(drift), degrees)


def _in_errors(values: Float[np.ndarray, " replica"]) -> float:
    """Return a mean over its standard error; 0 where nothing varies."""
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) / error if error > 0 else 0.0


def correlated_steps(series: Series) -> float:
    r"""Return the integrated autocorrelation time $\tau$ of a series at equilibrium, in steps; 1 where they are free.

    Of a series of any length: what is shorter than 50 of it is for its user to refuse.

    Source: foreman2013, sokal1997.
    """
    return float(integrated_time(series.T, c=WINDOW, tol=0)[0])


def block_means(series: Float[np.ndarray, "replica time moment"], tau: float) -> Float[np.ndarray, "unit moment"]:
    """Return means over blocks of 10 autocorrelation times, the units of every error; what is left goes from the start.

    A series of fewer than 40 is in four blocks all the same, whose errors are then too small.

    Args:
        series: Moments at equilibrium, of single steps or already averaged over some.
        tau: Longest autocorrelation time among them, in steps of this series.

    Raises:
        ValueError: If a replica has fewer than four steps.
    """
    replicas, steps, moments = series.shape
    if steps < LEAST_BLOCKS:
        raise refusal(f"series: got {steps} steps; expected at least {LEAST_BLOCKS}: run longer")
    blocks = max(LEAST_BLOCKS, steps // max(1, math.ceil(BLOCK_TIMES * tau)))
    length = steps // blocks
    whole = series[:, steps - blocks * length :]
    return whole.reshape(replicas * blocks, length, moments).mean(1)
