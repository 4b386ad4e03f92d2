r"""Time series at equilibrium: where it begins, how long it remembers, how much of it a wanted error needs.

The integrated autocorrelation time is $\tau = 1 + 2\sum_{s\ge1}\rho(s)$, in steps of the series: n steps are worth
$n/\tau$ independent ones, and the mean of n has the variance $\tau\,\mathrm{Var}/n$.
"""

import math
from typing import NamedTuple

import numpy as np
from emcee.autocorr import integrated_time
from jaxtyping import Float
from scipy.stats import chi2

from softmode.estimate import NORMAL_95, Estimate
from softmode.message import refusal

# a series shorter than this many autocorrelation times is not quoted; emcee's own default
LEAST_TIMES = 50
# the sum over the autocorrelation ends at this many autocorrelation times (Sokal)
WINDOW = 5
# autocorrelation times of a block: its mean then depends on the next one's by 1/20 of a variance
BLOCK_TIMES = 10
# steps that are averaged before the start is sought
MSER_BATCH = 5
# replicas whose means differ by what chance does this rarely have not seen the same states
DISAGREEMENT = 1e-5

Series = Float[np.ndarray, "replica time"]


def equilibrium_start(series: Series, name: str = "series") -> int:
    r"""Return the first step of a series that is at equilibrium, by the marginal standard error rule.

    Of the mean over replicas $y$, in batches of 5 steps, the first d are cut that make $\sum_{i\ge d}(y_i - \bar
    y_d)^2/(n - d)^2$ least: the squared error of what is left of it.

    Args:
        series: Values of an order parameter.
        name: What it is called in messages.

    Raises:
        ValueError: If the cut would take half of the series or more.

    Source: white1997, MSER-5.
    """
    batches = series.shape[1] // MSER_BATCH
    if batches < 2:
        raise refusal(f"{name}: got {series.shape[1]} steps; expected at least {2 * MSER_BATCH}: run longer")
    y = series[:, : batches * MSER_BATCH].mean(0).reshape(batches, MSER_BATCH).mean(1)
    y = y - y.mean()
    left = np.arange(batches, 0, -1)
    total, square = (np.cumsum(values[::-1])[::-1] for values in (y, y**2))
    error = (square - total**2 / left) / left**2
    half = batches // 2
    cut = int(np.argmin(error[: half + 1]))
    if cut >= half:
        raise refusal(
            f"{name}: got {series.shape[1]} steps that drift for half of them or more; expected an equilibrium: "
            f"run at least {2 * series.shape[1]} steps"
        )
    return cut * MSER_BATCH


def correlated_steps(series: Series) -> float:
    r"""Return the integrated autocorrelation time of a series of any length, in steps: nothing is refused.

    Source: foreman2013, sokal1997.
    """
    return float(integrated_time(series.T, c=WINDOW, tol=0)[0])


def autocorrelation_time(series: Series, name: str = "series") -> Estimate:
    r"""Return the integrated autocorrelation time $\tau$ of replicas, in steps, with Sokal's error of it.

    Args:
        series: Values at equilibrium.
        name: What it is called in messages.

    Returns:
        tau; 1 where steps are independent. Its samples are those of the series, steps over tau.

    Raises:
        ValueError: If a replica never changes, has less than 50 autocorrelation times, or if the means of the replicas
            differ by more than their autocorrelation allows: each has then seen a part of the states only.

    Source: foreman2013, sokal1997.
    """
    replicas, steps = series.shape
    if steps < LEAST_TIMES or not (np.ptp(series, axis=1) > 0).all():
        raise refusal(f"{name}: got {steps} steps, or one value throughout; expected a series that changes: run longer")
    # a series that is too short is refused below, in words of our own
    tau = correlated_steps(series)
    if steps < LEAST_TIMES * tau:
        raise refusal(
            f"{name}: got {steps} steps, {steps / tau:.0f} autocorrelation times of {tau:.3g}; expected at least "
            f"{LEAST_TIMES}: run {math.ceil(LEAST_TIMES * tau)} steps or more"
        )
    # a replica's own mean hides what it has in common with none of the others
    between = steps * float(series.mean(1).var(ddof=1)) / (float(series.var(1).mean()) * tau) if replicas > 1 else 1.0
    if replicas > 1 and chi2.sf((replicas - 1) * between, replicas - 1) < DISAGREEMENT:
        raise refusal(
            f"{name}: got {replicas} replicas whose means differ by {math.sqrt(between):.1f} times their errors; "
            f"expected replicas of one equilibrium: run {math.ceil(between * LEAST_TIMES * tau)} steps or more"
        )
    error = tau * math.sqrt(2 * (2 * WINDOW * tau + 1) / (replicas * steps))
    samples = int(replicas * steps / tau)
    return Estimate(tau, error, samples, tau - NORMAL_95 * error, tau + NORMAL_95 * error)


def block_means(series: Float[np.ndarray, "replica time moment"], tau: float) -> Float[np.ndarray, "unit moment"]:
    """Return means over blocks of 10 autocorrelation times, the units of every error; what is left goes from the start.

    Args:
        series: Moments at equilibrium, of single steps or already averaged over some.
        tau: Longest autocorrelation time among them, in steps of this series.

    Raises:
        ValueError: If a replica is shorter than one block.
    """
    replicas, steps, moments = series.shape
    length = max(1, math.ceil(BLOCK_TIMES * tau))
    blocks = steps // length
    if blocks == 0:
        raise refusal(f"series: got {steps} steps; expected a block of {length}: run longer")
    whole = series[:, steps - blocks * length :]
    return whole.reshape(replicas * blocks, length, moments).mean(1)


class Effort(NamedTuple):
    """What a wanted error costs.

    Attributes:
        samples: Independent samples.
        steps: Steps of all replicas together.
    """

    samples: int
    steps: int


def effort(pilot: Estimate, wanted: float, tau: float) -> Effort:
    r"""Return what brings a number's standard error down to a wanted one, $n = n_0\,(\epsilon_0/\epsilon)^2$.

    Args:
        pilot: The number by a pilot, with its standard error and its independent samples.
        wanted: The standard error that is wanted, in the number's unit.
        tau: Autocorrelation time, in steps.

    Raises:
        ValueError: If the pilot has no error, or the wanted one is not positive.
    """
    if not (wanted > 0 and pilot.stderr > 0 and pilot.samples > 0):
        raise refusal(
            f"error: got {wanted:g} with a pilot of {pilot}; expected a positive error and one of the pilot's"
        )
    samples = math.ceil(pilot.samples * (pilot.stderr / wanted) ** 2)
    return Effort(samples, math.ceil(samples * tau))
