"""Moments of the order parameter at one side and one value of the control, and what follows from their averages."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from softmode.estimate import NORMAL_95, RESAMPLES, Estimate
from softmode.message import refusal
from softmode.observe.order import binder_of_moments, second_moment_length, susceptibility

# columns of `Moments.means`, in this order
MOMENTS = ("|m|", "m^2", "m^4", "S(k_min)")
OBSERVABLES = ("|m|", "chi", "U4", "xi", "xi/L")
# an error of fewer units is no error
LEAST_UNITS = 10


@dataclass(frozen=True, eq=False)
class Moments:
    r"""Means of $|m|$, $m^2$, $m^4$ and $S(k_{\min})$ over units: blocks of replicas longer than they remember.

    Args:
        side: L of a cubic periodic lattice.
        dimensions: d.
        control: What drives the transition, such as the time t at which the score is frozen.
        means: One row per unit, of equal weight, with the columns `MOMENTS`.

    Raises:
        ValueError: If there are fewer than 10 units.
    """

    side: int
    dimensions: int
    control: float
    means: Float[np.ndarray, "unit moment"]

    def __post_init__(self) -> None:
        if len(self.means) < LEAST_UNITS:
            raise refusal(
                f"means: got {len(self.means)} units at L = {self.side}, {self.control:g}; expected at least "
                f"{LEAST_UNITS}: run longer or with more replicas"
            )

    @property
    def sites(self) -> int:
        """Number of sites N."""
        return self.side**self.dimensions

    def of_averages(self, averages: Float[np.ndarray, "row moment"]) -> Mapping[str, Float[np.ndarray, " row"]]:
        """Return every observable of averaged moments, by its name in `OBSERVABLES`."""
        absolute, second, fourth, structure = averages.T
        length = second_moment_length(second, structure, self.side, self.sites)
        return {
            "|m|": absolute,
            "chi": susceptibility(absolute, second, self.sites),
            "U4": binder_of_moments(second, fourth),
            "xi": length,
            "xi/L": length / self.side,
        }

    def observables(self) -> Mapping[str, Estimate]:
        """Return every observable with the jackknife error over units and a normal interval.

        Source: efron1993.
        """
        count, average = len(self.means), self.means.mean(0)
        without = (count * average - self.means) / (count - 1)
        found = {}
        for name, (value, *others) in self.of_averages(np.vstack([average, without])).items():
            spread = float(((others - np.mean(others)) ** 2).sum())
            error = float(np.sqrt((count - 1) / count * spread))
            reason = "" if np.isfinite(error) else "S(k_min) reaches N m^2" if "xi" in name else "nothing fluctuates"
            low, high = value - NORMAL_95 * error, value + NORMAL_95 * error
            found[name] = Estimate(float(value), error, count, float(low), float(high), reason)
        return found

    def resampled(self, resamples: int = RESAMPLES, seed: int = 0) -> Mapping[str, Float[np.ndarray, " resample"]]:
        """Return every observable in bootstrap resamples of the units, the same units for all observables.

        One unit less is drawn than there are, so that the spread is the standard error without a factor.

        Args:
            resamples: Number of resamples.
            seed: Seed; sides and controls have streams of their own under it.

        Source: efron1993, rao1988.
        """
        count = len(self.means)
        key = np.float64(self.control).view(np.uint64)
        rng = np.random.default_rng([seed, self.side, int(key)])
        drawn = rng.multinomial(count - 1, np.full(count, 1 / count), size=resamples)
        return self.of_averages(drawn @ self.means / (count - 1))
