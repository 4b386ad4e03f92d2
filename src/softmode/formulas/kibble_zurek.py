r"""How lengths grow with the rate of a quench: Kibble and Zurek's exponent, coarsening, freeze-out, power laws.

With $\epsilon = \log(\sigma/\sigma_c)$ the distance to the critical level, the correlation length is
$\xi_0\,\epsilon^{-\nu}$ and the relaxation time $\tau_0\,\epsilon^{-\nu z}$, in units of $\sigma^2$. A quench that
spends R such units per unit of $\log\sigma$ has $R\,\epsilon$ left.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from softmode.estimate import Array

# nu and z of the Ising model without conserved quantity (model A) by dimension: nu is 1 exactly and that of kos2016, z
# those of nightingale1996 and hasenbusch2020; in one dimension nothing orders
ISING = {2: (1.0, 2.1665), 3: (0.62997, 2.0245)}
# curvature drives walls of an order parameter that is not conserved: allen1979
COARSENING = 0.5


def length_exponent(nu: float, z: float) -> float:
    r"""Return $\nu/(1 + \nu z)$, with which the frozen length grows with the time of the quench.

    Args:
        nu: Exponent of the correlation length.
        z: Dynamic exponent.

    Source: kibble1976; zurek1985.
    """
    return nu / (1 + nu * z)


def critical_level(frozen: float, rate: Float[Array, "*rate"]) -> Float[Array, "*rate"]:
    r"""Return the noise level at which a quench itself turns critical, $\sigma_c\sqrt{1 + 1/R}$.

    In the units of the noise, $u = x/\sigma$, a quench is Langevin dynamics with $(1 + 1/R)\,D$ in place of D. Where D
    is linear, $|\Omega|\,u/\sigma$, that is the frozen dynamics at $\sigma/\sqrt{1 + 1/R}$; where it is saturated, and
    knows signs alone, at $\sigma/(1 + 1/R)$. For large R both are the frozen one.

    Args:
        frozen: Critical noise level of the frozen score.
        rate: R.

    Source: paper Eqs. 9 and 58: for R = 1 the zero of the drift, and not of the score.
    """
    return np.asarray(frozen * np.sqrt(1 + 1 / rate))


class FreezeOut(NamedTuple):
    """Where a quench falls out of equilibrium.

    Attributes:
        distance: Distance from there to the critical level in log sigma; NaN where it is beyond what is known.
        length: Equilibrium length there (sites).
    """

    distance: float
    length: float


def freeze_out(
    distances: Float[Array, " n"],
    times: Float[Array, " n"],
    lengths: Float[Array, " n"],
    rate: float,
    nu: float,
    z: float,
) -> FreezeOut:
    r"""Return where the relaxation time of the equilibrium meets the time left, $\tau(\hat\epsilon) = R\,\hat\epsilon$.

    Between the given distances by interpolation of logarithms; nearer than all of them by
    $\tau \sim \epsilon^{-\nu z}$ and $\xi \sim \epsilon^{-\nu}$, where $\hat\epsilon \sim R^{-1/(1+\nu z)}$.

    Args:
        distances: Falling distances to the critical level, in units of log sigma.
        times: Relaxation times there, in units of sigma^2.
        lengths: Equilibrium lengths there (sites).
        rate: R.
        nu: Exponent of the length.
        z: Dynamic exponent.

    Source: zurek1985.
    """
    behind = times >= rate * distances
    if behind[0]:
        return FreezeOut(math.nan, math.nan)
    if not behind.any():
        nearest, share = float(distances[-1]), float(times[-1] / (rate * distances[-1]))
        return FreezeOut(nearest * share ** (1 / (1 + nu * z)), float(lengths[-1]) * share ** -length_exponent(nu, z))
    place = int(behind.argmax())
    between = slice(place - 1, place + 1)
    excess = np.log(times[between] / (rate * distances[between]))
    share = -excess[0] / (excess[1] - excess[0])
    distance, length = (
        math.exp((1 - share) * math.log(values[place - 1]) + share * math.log(values[place]))
        for values in (distances, lengths)
    )
    return FreezeOut(distance, length)


class PowerLaw(NamedTuple):
    """A power law fitted to numbers with errors.

    Attributes:
        exponent: Exponents [*batch].
        chi_square: Weighted sum of squared residuals of log y, [*batch].
    """

    exponent: Array
    chi_square: Array


def power_law(x: Float[Array, " n"], y: Float[Array, "*batch n"], error: Float[Array, " n"]) -> PowerLaw:
    r"""Fit $\log y = a + b\log x$ with weights $(y/\delta y)^2$.

    Args:
        x: Positive numbers, at least two.
        y: Positive numbers; one that is not makes the fit undefined.
        error: Relative errors of y.
    """
    weight = error**-2
    with np.errstate(divide="ignore", invalid="ignore"):
        log_x, log_y = np.log(x), np.where(y > 0, np.log(y), np.nan)
    centred = log_x - (weight @ log_x) / weight.sum()
    exponent = log_y @ (weight * centred) / (weight @ centred**2)
    left = log_y - (log_y @ weight / weight.sum())[..., None] - exponent[..., None] * centred
    return PowerLaw(exponent, left**2 @ weight)


def misfit_probability(chi_square: float, freedom: int) -> float:
    """Return the probability of a chi^2 at least so large; NaN without a degree of freedom."""
    return float(stats.chi2.sf(chi_square, freedom)) if freedom > 0 else math.nan
