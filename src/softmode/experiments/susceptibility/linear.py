r"""Up to which strength the response to guidance is linear.

Along the way from no guidance to the weight w in use, a run has A and its derivative at several strengths. Between
them A is the cubic of both ends (Hermite). Linear response, $w\,dA/dw(0)$, holds up to the first strength at which it
misses the gain by a tenth of it.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicHermiteSpline

from softmode.estimate import Array, Estimate, bootstrap

# share of the gain by which linear response may miss it
MISSED = 0.1
# places between no guidance and the weight in use at which the two are compared
FINE = 1000


def linear_up_to(
    strengths: Float[Array, " node"], values: Float[Array, " node"], slopes: Float[Array, " node"]
) -> float:
    """Return the strength up to which linear response holds within MISSED of the gain; NaN if up to the last.

    Args:
        strengths: Rising from 0.
        values: A at each.
        slopes: dA/dw along the way at each.
    """
    fine = np.linspace(0, strengths[-1], FINE + 1)[1:]
    gain = CubicHermiteSpline(strengths, values, slopes)(fine) - values[0]
    missed = np.abs(gain - fine * slopes[0]) - MISSED * np.abs(gain)
    (over,) = np.nonzero(missed >= 0)
    if not len(over):
        return math.nan
    place = int(over[0])
    if place == 0:
        return float(fine[0])
    before, after = missed[place - 1 : place + 1]
    return float(fine[place - 1] + (fine[place] - fine[place - 1]) * before / (before - after))


def linear_range(
    strengths: Float[Array, " node"],
    values: Float[Array, "trial node"],
    slopes: Float[Array, "trial node"],
    labels: Int[Array, " trial"],
) -> Estimate:
    """Estimate that strength for the mean over trials, with a bootstrap within classes.

    A negative weight in use has negative strengths: their sizes count.
    """
    kept = np.isfinite(values).all(1) & np.isfinite(slopes).all(1)
    if not kept.any():
        return Estimate.missing(0, "no trial has a derivative")
    sign = math.copysign(1.0, strengths[-1])

    def found(mean: Array) -> Array:
        return np.array([linear_up_to(sign * strengths, mean[:, 0], sign * mean[:, 1])])

    both = np.stack([values, slopes], 2)[kept]
    result = bootstrap(both, found, centre=lambda rows: rows.mean(0), groups=labels[kept].tolist())[0]
    if math.isnan(result.value):
        return Estimate.missing(len(both), f"it holds up to w = {strengths[-1]:g}, the weight in use")
    low, high = sorted((sign * result.low, sign * result.high))
    return Estimate(sign * result.value, result.stderr, result.samples, low, high, result.reason)
