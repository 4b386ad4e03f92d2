"""Lengths of a run and their power laws in the rate, each with its error over trajectories."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from softmode.estimate import Array, Estimate, bootstrap_draws, from_replicates
from softmode.formulas.kibble_zurek import misfit_probability, power_law
from softmode.observe.domains import correlation_length, decay_length, wall_spacing
from softmode.runs.run import Run

# estimators of a length, by what they are called
ESTIMATORS = {
    "xi": "xi of x, 1/S(k) = a(1 + xi^2 k^2)",
    "wall_spacing": "sites per wall of sign D",
    "decay": "1/e of C(r) of sign D",
    "xi_x": "xi_x of sign x (Eq. 63)",
}
XI, WALLS, DECAY, PAPER = range(len(ESTIMATORS))
# a lattice holds a length that is at most this share of its side
SHARE = 0.1
# least probability of the misfit of a power law that is believed, and fewest rates of one
BELIEVED, LEAST = 0.05, 3


@dataclass(frozen=True)
class Exponent:
    """A power law in the rate.

    Args:
        estimate: The exponent.
        first: First rate of the fit.
        last: Last rate.
        chi_square: Misfit.
        freedom: Its degrees of freedom.
    """

    estimate: Estimate
    first: float
    last: float
    chi_square: float
    freedom: int

    @property
    def fits(self) -> bool:
        """Whether the rates are on a power law."""
        return misfit_probability(self.chi_square, self.freedom) > BELIEVED


@dataclass(frozen=True, eq=False)
class Found:
    """What a run holds.

    Args:
        config: Its config.
        arrays: Arrays by name, coordinates among them.
    """

    config: dict[str, Any]
    arrays: dict[str, Array]

    @classmethod
    def of(cls, run: Run) -> "Found":
        """Return that of a run."""
        return cls(run.config, {str(name): run.dataset[name].to_numpy() for name in run.dataset.variables})

    def __getitem__(self, name: str) -> Array:
        """Return an array."""
        return self.arrays[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides of the lattice."""
        return (int(self.config["size"]),) * int(self.config["dimensions"])

    def curves(self, places: Array) -> Array:
        """Return everything that lengths are made of at a level of each rate, [trajectory, rate, column]."""
        parts = [self["correlation"], self["domain_correlation"], self["defects"][..., None],
                 self["xi_sign"][..., None]]  # fmt: skip
        rates = np.arange(len(places))
        return np.concatenate([part[:, rates, places].astype(float) for part in parts], -1)

    def lengths_of(self, means: Array) -> Array:
        """Return every estimator's length of mean curves [*batch, column], [*batch, estimator]."""
        distances = self["correlation"].shape[-1]
        return np.stack([
            correlation_length(means[..., :distances], self.shape),
            wall_spacing(means[..., -2], len(self.shape)),
            decay_length(means[..., distances : 2 * distances]),
            means[..., -1],
        ], -1)  # fmt: skip

    def at(self, levels: float | Array) -> "Lengths":
        """Return the lengths at a noise level, or one of each rate, with their errors by the bootstrap.

        Between levels that were measured by interpolation of logarithms.
        """
        rates, measured = self["rate"], -np.log(self["level"])
        wanted = -np.log(np.broadcast_to(levels, rates.shape))
        places = np.interp(wanted, measured, np.arange(len(measured)))
        # a level that was measured is one, whatever the rounding
        places = np.where(abs(places - places.round()) < 1e-6, places.round(), places)
        below, above = np.floor(places).astype(int), np.ceil(places).astype(int)
        draws = bootstrap_draws(self["defects"].shape[0])

        def lengths(which: Array) -> tuple[Array, Array]:
            curves = self.curves(which)
            resampled = np.stack([curves[draw].mean(0) for draw in draws])
            return self.lengths_of(curves.mean(0)), self.lengths_of(resampled)

        value, replicates = lengths(below)
        if (above > below).any():
            share, further = (places - below)[:, None], lengths(above)
            with np.errstate(divide="ignore"):
                value, replicates = (
                    np.exp((1 - share) * np.log(one) + share * np.log(other))
                    for one, other in zip((value, replicates), further, strict=True)
                )
        most = SHARE * self.config["size"]
        return Lengths(value.T, replicates.swapaxes(1, 2), len(self["defects"]), rates, most)


@dataclass(frozen=True, eq=False)
class Lengths:
    """Lengths at a level.

    Args:
        values: Of mean curves, [estimator, rate].
        replicates: Of resamples, [resample, estimator, rate].
        count: Number of trajectories.
        rates: Rates [rate].
        most: Length that the lattice holds (sites).
    """

    values: Array
    replicates: Array
    count: int
    rates: Array
    most: float

    @cached_property
    def estimates(self) -> list[list[Estimate]]:
        """Every length with its error, by estimator and rate."""
        return [
            [from_replicates(float(value), self.replicates[:, i, j], self.count) for j, value in enumerate(row)]
            for i, row in enumerate(self.values)
        ]

    def too_long(self, which: int) -> Array:
        """Return of which rates a length is more than the lattice holds."""
        return np.asarray(self.values[which] > self.most)

    def exponents(self, which: int) -> list[Exponent]:
        """Return the exponents of an estimator, one for each first rate of a fit, in rising order.

        Rates are left out whose length has no error, or is more than the lattice holds.
        """
        values = self.values[which]
        errors = np.array([each.stderr for each in self.estimates[which]])
        usable = np.flatnonzero((errors > 0) & np.isfinite(errors) & (values > 0) & ~self.too_long(which))
        found = []
        for first in range(len(usable) - LEAST + 1):
            at = usable[first:]
            relative = errors[at] / values[at]
            fit = power_law(self.rates[at], values[at], relative)
            replicates = power_law(self.rates[at], self.replicates[:, which, at], relative).exponent
            estimate = from_replicates(float(fit.exponent), replicates, self.count)
            ends = float(self.rates[at[0]]), float(self.rates[at[-1]])
            found.append(Exponent(estimate, *ends, float(fit.chi_square), len(at) - 2))
        return found


def chosen(scan: list[Exponent]) -> Exponent | None:
    """Return the power law of the most rates that are on one, or of the fewest if none are; nothing of no fits."""
    return next((each for each in scan if each.fits), scan[-1] if scan else None)
