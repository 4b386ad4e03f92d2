"""Lengths of a run and their power laws in the rate, each with its error over trajectories."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from softmode.estimate import Array, Estimate, bootstrap
from softmode.formulas.kibble_zurek import misfit_probability, power_law
from softmode.lattice import ReceptiveField
from softmode.observe.domains import decay_length, wall_spacing, windowed_length
from softmode.runs.run import Run

# estimators of a length, by what they are called
ESTIMATORS = {
    "xi_moment": "second moment of C(r) of x",
    "wall_spacing": "sites per wall of sign D",
    "decay": "1/e of C(r) of sign D",
    "xi_x": "xi_x of sign x (Eq. 63)",
}
MOMENT, WALLS, DECAY, PAPER = range(len(ESTIMATORS))
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
        field: Its receptive field.
    """

    config: dict[str, Any]
    arrays: dict[str, Array]
    field: ReceptiveField

    @classmethod
    def of(cls, run: Run) -> "Found":
        """Return that of a run."""
        arrays = {str(name): run.dataset[name].to_numpy() for name in run.dataset.variables}
        return cls(run.config, arrays, ReceptiveField.parse(run.config["receptive_field"], run.config["dimensions"]))

    def __getitem__(self, name: str) -> Array:
        """Return an array."""
        return self.arrays[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides of the lattice."""
        return (int(self.config["size"]),) * int(self.config["dimensions"])

    @property
    def least(self) -> int:
        """Distance within which the model itself correlates sites: two patches."""
        return 2 * max(self.field.extent)

    @property
    def critical(self) -> int | None:
        """Place of the critical level, if it is known."""
        if self.config["critical"] is None:
            return None
        return int(np.argmin(abs(np.log(self["level"] / self.config["critical"]))))

    def curves(self, level: int) -> Array:
        """Return everything that lengths are made of at a level, [trajectory, rate, column]."""
        parts = [self["correlation"], self["domain_correlation"], self["defects"][..., None],
                 self["xi_sign"][..., None]]  # fmt: skip
        return np.concatenate([part[:, :, level].astype(float) for part in parts], -1)

    def lengths_of(self, means: Array) -> Array:
        """Return every estimator's length of mean curves [*batch, column], [estimator, *batch]."""
        distances = self["correlation"].shape[-1]
        return np.stack([
            windowed_length(means[..., :distances], self.shape, self.least),
            wall_spacing(means[..., -2], len(self.shape)),
            decay_length(means[..., distances : 2 * distances]),
            means[..., -1],
        ])  # fmt: skip

    def lengths(self, level: int) -> list[list[Estimate]]:
        """Return the lengths of every estimator and rate at a level."""
        found = bootstrap(
            self.curves(level), lambda means: self.lengths_of(means).ravel(), centre=lambda sample: sample.mean(0)
        )
        rates = len(self["rate"])
        return [found[start : start + rates] for start in range(0, len(found), rates)]

    def too_long(self, lengths: list[Estimate]) -> Array:
        """Return of which rates a length is more than the lattice holds."""
        return np.array([each.value > SHARE * self.config["size"] for each in lengths])

    def usable(self, lengths: list[Estimate]) -> Array:
        """Return the places of the rates whose lengths may be fitted: those with an error that the lattice holds."""
        known = np.array([0 < each.stderr < math.inf for each in lengths])
        return np.flatnonzero(known & ~self.too_long(lengths))

    def exponents(self, level: int, lengths: list[list[Estimate]]) -> list[list[Exponent]]:
        """Return the exponents of every estimator at a level, one for each first rate of a fit, in rising order.

        Args:
            level: Place of the level.
            lengths: The lengths there.
        """
        rates = self["rate"]
        errors = np.array([[each.stderr / each.value for each in row] for row in lengths])
        ranges = [
            (row, usable[start:])
            for row, usable in enumerate(map(self.usable, lengths))
            for start in range(len(usable) - LEAST + 1)
        ]

        def fits(means: Array) -> Array:
            values = self.lengths_of(means)
            return np.array([power_law(rates[at], values[row, at], errors[row, at]).exponent for row, at in ranges])

        if not ranges:
            return [[] for _ in lengths]
        found = bootstrap(self.curves(level), fits, centre=lambda sample: sample.mean(0))
        exponents: list[list[Exponent]] = [[] for _ in lengths]
        for (row, at), estimate in zip(ranges, found, strict=True):
            values = np.array([lengths[row][place].value for place in at])
            misfit = float(power_law(rates[at], values, errors[row, at]).chi_square)
            last = float(rates[at][-1])
            exponents[row].append(Exponent(estimate, float(rates[at][0]), last, misfit, len(values) - 2))
        return exponents


def chosen(scan: list[Exponent]) -> Exponent | None:
    """Return the power law of the most rates that are on one, or of the fewest if none are; nothing of no fits."""
    return next((each for each in scan if each.fits), scan[-1] if scan else None)
