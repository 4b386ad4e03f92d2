"""What Kibble and Zurek, and coarsening, say of a run's quenches."""

import math
from dataclasses import dataclass

import numpy as np

from softmode.estimate import Array, Estimate
from softmode.experiments.quench.found import Found
from softmode.experiments.quench.frozen import EVERY, SIDE, STEP
from softmode.formulas.kibble_zurek import COARSENING, ISING, FreezeOut, freeze_out, length_exponent
from softmode.observe.domains import correlation_length, decay_length

# standard errors within which an exponent is a theory's, and share of the gap between both that these may be
NEAR, SHARP = 2, 0.5
# what corrections to scaling move an exponent by, from one estimator of a length to another
CORRECTIONS = 0.025


@dataclass(frozen=True, eq=False)
class Theory:
    """Exponents of theory, and the equilibrium that was measured at levels above the critical one.

    Args:
        nu: Exponent of the correlation length; NaN where nothing orders.
        z: Dynamic exponent.
        distances: Falling distances of those levels to the critical one in log sigma.
        times: Relaxation times of the mean there (sigma^2).
        lengths: Equilibrium lengths there (sites).
    """

    nu: float
    z: float
    distances: Array
    times: Array
    lengths: Array

    @classmethod
    def of(cls, found: Found) -> "Theory":
        """Return that of a run."""
        nu, z = ISING.get(found.config["dimensions"], (math.nan, math.nan))
        nothing = np.empty(0)
        if found.config["critical"] is None:
            return cls(nu, z, nothing, nothing, nothing)
        distances = np.log(found["frozen"] / found.config["critical"])
        correlation = found["frozen_correlation"].mean(0)
        shape = (min(found.config["size"], SIDE),) * len(found.shape)
        times = decay_length(found["memory"].mean(0)) * EVERY * STEP
        return cls(nu, z, distances, times, correlation_length(correlation, shape))

    @property
    def exponent(self) -> float:
        """Kibble and Zurek's exponent of the length."""
        return length_exponent(self.nu, self.z)

    @property
    def both(self) -> tuple[float, float]:
        """That exponent and coarsening's."""
        return self.exponent, COARSENING

    def verdict(self, estimate: Estimate) -> str:
        """Return which exponent of theory is within two standard errors of one, or 0.025, or where else it is.

        Undecided where two standard errors are more than half of what the two differ by.
        """
        reach = max(NEAR * estimate.stderr, CORRECTIONS)
        zurek, coarsening = (abs(estimate.value - each) <= reach for each in self.both)
        if math.isnan(self.exponent):
            return "coarsening" if coarsening else "not coarsening"
        if not NEAR * estimate.stderr <= SHARP * (COARSENING - self.exponent):
            return "undecided"
        if zurek or coarsening:
            return "Kibble-Zurek" if zurek else "coarsening"
        if estimate.value > COARSENING:
            return "above coarsening"
        return "below Kibble-Zurek" if estimate.value < self.exponent else "between the two"

    def freeze_out(self, rate: float) -> FreezeOut:
        """Return where a rate falls out of equilibrium."""
        known = np.isfinite(self.times) & np.isfinite(self.lengths)
        if not known.any():
            return FreezeOut(math.nan, math.nan)
        return freeze_out(self.distances[known], self.times[known], self.lengths[known], rate, self.nu, self.z)
