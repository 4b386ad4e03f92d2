"""Where the curves of two sides cross, and whether they do."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from softmode.estimate import Array, Estimate, from_replicates
from softmode.finite_size.curves import Curves
from softmode.finite_size.moments import Moments

# order of the polynomial that stands for a side's curve, less where there are fewer points
ORDER = 3
# points between which a crossing is interpolated
FINE = 201
# curves cross where their difference changes sign by so many standard errors at both ends
SURE = 2.0


class Crossing(NamedTuple):
    """The crossing of one observable's curves of two sides.

    Attributes:
        name: The observable.
        sides: Both sides, the smaller first.
        control: Where they cross.
        value: Their value there.
    """

    name: str
    sides: tuple[int, int]
    control: Estimate
    value: Estimate


class Ends(NamedTuple):
    """What two curves do at the ends of what they have in common.

    Attributes:
        sides: Both sides, the smaller first.
        range: The ends.
        differences: The larger side's observable less the smaller one's, at both.
    """

    sides: tuple[int, int]
    range: tuple[float, float]
    differences: tuple[Estimate, Estimate]

    @property
    def cross(self) -> bool:
        """Whether the difference has opposite signs at the ends, by at least two standard errors at each."""
        low, high = (each.value / each.stderr for each in self.differences)
        return bool(low * high < 0 and min(abs(low), abs(high)) >= SURE)


def neighbours(curves: Curves) -> list[tuple[int, int]]:
    """Return every side of at least two points with the next larger one."""
    sides = [int(side) for side in np.unique(curves.side) if (curves.side == side).sum() > 1]
    return list(itertools.pairwise(sides))


def crossings(curves: Curves, name: str, pairs: Sequence[tuple[int, int]] | None = None) -> list[Crossing]:
    """Return where polynomials through the curves of pairs of sides cross; undefined where they do not.

    Args:
        curves: Curves near the transition, where a polynomial of third order describes each.
        name: The observable.
        pairs: Sides; neighbours when left out.

    Source: binder1981.
    """
    found = []
    for pair in neighbours(curves) if pairs is None else pairs:
        grid, small, large = _polynomials(curves.select(name), pair)
        units = int(curves.units[np.isin(curves.side, pair)].min())
        place = _steepest(grid, small[:1], large[:1])
        if np.isnan(place).any():
            missing = Estimate.missing(units, f"no crossing in [{grid[0]:g}, {grid[-1]:g}]")
            found.append(Crossing(name, pair, missing, missing))
            continue
        drawn = _steepest(grid, small[1:], large[1:])
        control, value = (from_replicates(float(place[0, i]), drawn[:, i], units) for i in range(2))
        found.append(Crossing(name, pair, control, value))
    return found


def ends(curves: Curves, name: str) -> list[Ends]:
    """Return what the curves of neighbouring sides do at the ends of their common range.

    Args:
        curves: Curves over the range.
        name: The observable.
    """
    found = []
    for pair in neighbours(curves):
        grid, small, large = _polynomials(curves.select(name), pair)
        units = int(curves.units[np.isin(curves.side, pair)].min())
        low, high = (from_replicates(float(at[0]), at[1:], units) for at in (large - small).T[[0, -1]])
        found.append(Ends(pair, (float(grid[0]), float(grid[-1])), (low, high)))
    return found


def order_at_ends(points: Sequence[Moments]) -> list[str]:
    r"""Return a sentence for each end of the range: |m| of the smallest and the largest side, and its power of L.

    $|m| \sim L^0$ where there is order and $L^{-d/2}$ where there is none.

    Args:
        points: Moments of at least two sides.
    """
    said = []
    sides = sorted({point.side for point in points})
    for pick, end in ((min, "lowest"), (max, "highest")):
        chosen = [
            pick((p for p in points if p.side == side), key=lambda p: p.control) for side in (sides[0], sides[-1])
        ]
        small, large = (point.observables()["|m|"] for point in chosen)
        power = np.log(large.value / small.value) / np.log(sides[-1] / sides[0])
        said.append(
            f"at the {end}, {chosen[0].control:g}, |m| is {small} for L = {sides[0]} and {large} for L = {sides[-1]}, "
            f"~ L^{round(power, 2) + 0.0:.2f} (L^0 with order, L^-{chosen[0].dimensions / 2:g} without)"
        )
    return said


def _polynomials(curves: Curves, pair: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Return a grid over the common range and both sides' polynomials on it, [1 + resample, grid], all units first."""
    own = [curves.where(curves.side == side) for side in pair]
    low, high = max(c.control.min() for c in own), min(c.control.max() for c in own)
    grid = np.linspace(low, high, FINE)
    return grid, _polynomial(own[0], grid), _polynomial(own[1], grid)


def _polynomial(curve: Curves, grid: Float[np.ndarray, " grid"]) -> Float[np.ndarray, "resample grid"]:
    """Return the weighted polynomial of one side's only observable, of all units and of every resample."""
    order = min(ORDER, len(curve.control) - 1)
    middle, scale = curve.control.mean(), np.ptp(curve.control)
    design, fine = (np.vander((t - middle) / scale, order + 1) for t in (curve.control, grid))
    weight = curve.weights()[:, 0]
    rows = np.concatenate([curve.values[None, :, 0], curve.replicates[:, :, 0]])
    return (fine @ np.linalg.pinv(weight[:, None] * design) @ (weight * rows).T).T


def _steepest(grid: Array, small: Array, large: Array) -> Float[np.ndarray, "resample 2"]:
    """Return control and value of the crossing with the steepest difference, NaN without one."""
    difference = large - small
    slope = np.where(difference[:, :-1] * difference[:, 1:] < 0, np.abs(np.diff(difference)), 0.0)
    row, i = np.arange(len(small)), slope.argmax(1)
    before, after = difference[row, i], difference[row, i + 1]
    found = slope[row, i] > 0
    share = np.where(found, before / np.where(found, before - after, 1.0), np.nan)
    control = grid[i] + share * (grid[i + 1] - grid[i])
    return np.stack([control, small[row, i] + share * (small[row, i + 1] - small[row, i])], 1)
