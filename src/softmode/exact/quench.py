r"""Quenches of a patch model: down the noise levels at a stated rate.

Per unit of $\ell = -\log\sigma$, with R the quench's relaxation time, in units of $\sigma^2$,

$$ dx = (1 + R)\,(D(x, \sigma) - x)\,d\ell + \sigma\sqrt{2R}\,dW. $$

R = 0 is the probability flow, R = 1 the reverse SDE of the paper, and the larger R is, the longer the states relax at
every noise level, at the cost of $(1 + R)/h$ evaluations of D per unit of $\ell$ for steps of length h.
"""

import math

import numpy as np
from jaxtyping import Float

from softmode.exact.patch_dynamics import Steps

# from the level at which a step begins, the share of it after which D is taken
LATER = 0.25


def quench_levels(first: float, last: float, spacing: float, through: float) -> Float[np.ndarray, " level"]:
    r"""Return falling noise levels, evenly spaced in their logarithm, one of which is `through`.

    Args:
        first: Noise level that the highest one reaches or exceeds.
        last: Noise level that the lowest one reaches or falls below.
        spacing: Distance of two in $\log\sigma$.
        through: Noise level between the two.
    """
    above, below = math.ceil(math.log(first / through) / spacing), math.ceil(math.log(through / last) / spacing)
    return np.asarray(through * np.exp(-spacing * np.arange(-above, below + 1)))


def quench_steps(first: float, fall: float, rate: float, count: int) -> Steps:
    r"""Return equal steps of a quench in $\log\sigma$, of second order in their length.

    In the units of the noise, $u = x/\sigma$, the noise is stationary, and each step is that of Leimkuhler and
    Matthews: with $r = e^{-d\ell}$, $k = e^{-(1+R)d\ell}$ and $c^2 = (1 - k/r)/2$,

    $$ y = x + c\,\sigma\,\xi,\qquad x' = k\,y + (1 - k)\,D(y, \sigma r^{1/4}) + c\,\sigma r\,\xi. $$

    y has the law of the states at $\sigma$, exactly where D is constant; that of a Gaussian's denoiser is right to
    second order. For R = 0 this is DDIM.

    Args:
        first: Noise level at which the first step begins.
        fall: Distance from there to the end of the last step in $\log\sigma$.
        rate: R.
        count: How many.

    Source: paper Eqs. 2 and 58 for R = 1; karras2022 for other R; leimkuhler2013.
    """
    each = fall / count
    sigma = first * np.exp(-each * np.arange(count))
    keep = np.full(count, math.exp(-(1 + rate) * each))
    noise = sigma * noise_share(each, rate)
    return Steps(sigma * math.exp(-LATER * each), noise, keep, 1 - keep, noise * math.exp(-each))


def noise_share(each: float, rate: float) -> float:
    """Return c, the share of the noise level that a step of a length in log sigma puts before and after D."""
    return math.sqrt(-math.expm1(-rate * each) / 2)


def seen(steps: Steps) -> Steps:
    """Return the step that makes of x the y of the first of some steps, with the number that this one will have."""
    zero, one = np.zeros(1), np.ones(1)
    return Steps(steps.sigma[:1], zero, one, zero, steps.before[:1])


def denoising(level: float) -> Steps:
    """Return the step that makes D(x) of x."""
    zero, one = np.zeros(1), np.ones(1)
    return Steps(np.full(1, level), zero, zero, one, zero)
