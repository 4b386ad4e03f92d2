"""Curves of observables against the control, one for each side, with resamples that keep what they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from softmode.estimate import RESAMPLES
from softmode.finite_size.moments import Moments
from softmode.message import refusal

# the two that cross at the transition, and have one value there for all sides
CROSSING = ("U4", "xi/L")


@dataclass(frozen=True, eq=False)
class Curves:
    """Observables at points, each a side and a control, with bootstrap replicates over the units of each point.

    Args:
        names: Names of the observables.
        side: L of every point.
        control: Control of every point.
        values: Observables of all units.
        replicates: The same of every resample; observables of one resample come from the same units.
        units: Number of units of every point.
    """

    names: tuple[str, ...]
    side: Int[np.ndarray, " point"]
    control: Float[np.ndarray, " point"]
    values: Float[np.ndarray, "point observable"]
    replicates: Float[np.ndarray, "resample point observable"]
    units: Int[np.ndarray, " point"]

    @classmethod
    def of(
        cls, points: Sequence[Moments], names: Sequence[str] = CROSSING, resamples: int = RESAMPLES, seed: int = 0
    ) -> "Curves":
        """Return the curves of measured moments, points where an observable is undefined left out.

        Args:
            points: Moments of every side and control.
            names: Observables, of `moments.OBSERVABLES`.
            resamples: Bootstrap resamples.
            seed: Seed of them.

        Raises:
            ValueError: If no point has all the observables.
        """
        averages = [point.of_averages(point.means.mean(0, keepdims=True)) for point in points]
        drawn = [point.resampled(resamples, seed) for point in points]
        values = np.array([[float(each[name][0]) for name in names] for each in averages]).reshape(-1, len(names))
        replicates = np.array([[each[name] for name in names] for each in drawn]).reshape(-1, len(names), resamples)
        everything = cls(
            tuple(names),
            np.array([point.side for point in points]),
            np.array([point.control for point in points], dtype=float),
            values,
            np.moveaxis(replicates, 2, 0),
            np.array([len(point.means) for point in points]),
        )
        return everything.where(np.isfinite(values).all(1) & np.isfinite(replicates).all((1, 2)))

    def where(self, kept: Bool[np.ndarray, " point"]) -> "Curves":
        """Return some of the points.

        Raises:
            ValueError: If none is left.
        """
        if not kept.any():
            raise refusal(f"curves: got no point with {' and '.join(self.names)}; expected some: measure more")
        return Curves(
            self.names, self.side[kept], self.control[kept], self.values[kept], self.replicates[:, kept],
            self.units[kept],
        )  # fmt: skip

    def select(self, *names: str) -> "Curves":
        """Return the curves of some of the observables."""
        index = [self.names.index(name) for name in names]
        return Curves(
            names, self.side, self.control, self.values[:, index], self.replicates[:, :, index], self.units
        )  # fmt: skip

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> "Curves":
        """Return the curves of a function of every observable, such as its logarithm."""
        return Curves(
            self.names, self.side, self.control, function(self.values), function(self.replicates), self.units
        )  # fmt: skip

    def near(self, t_c: float, nu: float, reach: float) -> "Curves":
        r"""Return the points with $|t - t_c| L^{1/\nu}$ of at most `reach`, where a short polynomial is enough."""
        return self.where(np.abs(self.control - t_c) * self.side ** (1 / nu) <= reach)

    def weights(self) -> Float[np.ndarray, "point observable"]:
        r"""Return the inverse standard errors.

        The inverse variance of n units is too large by (n - 1)/(n - 3) on average, which is taken out.

        Source: hartlap2007.
        """
        debias = np.sqrt((self.units - 3) / (self.units - 1))
        return np.asarray(debias[:, None] / self.replicates.std(0, ddof=1))

    def correlations(self) -> Float[np.ndarray, "point observable observable"]:
        """Return how the observables of each point vary together over the resamples."""
        unit = (self.replicates - self.replicates.mean(0)) / self.replicates.std(0)
        return np.asarray(np.einsum("bpi,bpj->pij", unit, unit) / len(unit))
