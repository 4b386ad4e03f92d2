r"""What guidance gains at every noise level: reverse sweeps along the way from no guidance to the weights in use.

Along the straight way the levels' derivatives add up to the gain of any scalar A of the final sample,

$$ A(w) - A(0) = \sum_i \int_0^1 w_i \frac{\partial A}{\partial w_i}(u w)\,du. $$

A sample that stands near a decision changes abruptly at some strength, most often a small one. So the integral is taken
in $v = \sqrt u$, which is dense near no guidance, by Simpson's rule, and a panel is halved until the rise of A over it,
which both ends tell, is what its levels add up to: each trial by itself, so that strengths go where they are needed.

Source: sundararajan2017 (the integral along a straight way); kuncir1962 (halving where the rule is not yet good).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.estimate import Array
from softmode.guidance.adjoint import Sweep

# sweeps some trials, a trial as often as it is named, each at its share of the weights in use
SweepAt = Callable[[list[int], Float[Tensor, " row"]], Sweep]
# how often a panel is halved at most
DEEPEST = 16


class Attribution(NamedTuple):
    """What guidance gains, level by level, and what was found at the strengths that all trials share.

    Attributes:
        share: Gain of each level, float64 [trial, level]; NaN where a derivative is not finite.
        sweeps: What one sweep of all trials tells, at each of the strengths.
        extra: Further sweeps that each trial took, [trial].
    """

    share: Float[Array, "trial level"]
    sweeps: list[Sweep]
    extra: Int[Array, " trial"]

    @property
    def defect(self) -> Float[Array, " trial"]:
        """What A rises by beyond what the levels gain together: the error of the integral along the way, [trial]."""
        rise = (self.sweeps[-1].value - self.sweeps[0].value).cpu().numpy()
        return np.asarray(rise - self.share.sum(1))


def strengths(nodes: int) -> Float[Array, " node"]:
    """Return the strengths that all trials share, from none to the one in use, 0 to 1, dense near none.

    Args:
        nodes: Their number, odd and at least 3.
    """
    return np.linspace(0.0, 1.0, nodes) ** 2


def attribute(
    sweep: SweepAt, weights: Float[Tensor, "trial level"], nodes: int = 5, tolerance: float = 0.01
) -> Attribution:
    r"""Return what each level gains on the way from no guidance to some weights, for every trial.

    Args:
        sweep: Sweeps trials at shares of the weights.
        weights: Weights in use, float64 [trial, level].
        nodes: Strengths that all trials share, odd and at least 3.
        tolerance: How far the levels of a panel may miss the rise of A over it, in the units of A.

    Source: kuncir1962.
    """
    trials, along = list(range(len(weights))), weights.cpu().numpy()
    places = np.linspace(0.0, 1.0, nodes)
    every = [sweep(trials, torch.full((len(trials),), float(place**2), dtype=torch.float64)) for place in places]
    points = [_points(trials, [float(place)] * len(trials), found, along)
              for place, found in zip(places, every, strict=True)]  # fmt: skip
    panels = [
        _Panel(row, *(points[place + k][row] for k in range(3))) for place in range(0, nodes - 1, 2) for row in trials
    ]
    share, extra = np.zeros(along.shape), np.zeros(len(trials), int)
    for depth in range(DEEPEST + 1):
        open_halves: list[_Half] = []
        for panel in panels:
            # of what is not finite there is no better
            if depth == DEEPEST or not abs(panel.rise - panel.parts.sum()) > tolerance:
                share[panel.row] += panel.parts
                continue
            for half in panel.halves:
                if half.is_flat(tolerance):
                    share[half.row] += half.parts
                else:
                    open_halves.append(half)
        if not open_halves:
            break
        rows, middles = [half.row for half in open_halves], [half.middle for half in open_halves]
        np.add.at(extra, rows, 1)
        found = _points(rows, middles, sweep(rows, torch.tensor(middles, dtype=torch.float64).square()), along)
        panels = [_Panel(half.row, half.left, point, half.right)
                  for half, point in zip(open_halves, found, strict=True)]  # fmt: skip
    return Attribution(share, every, extra)


class _Point(NamedTuple):
    """A strength on a trial's way: v, A there, and what each level gains per unit of v."""

    place: float
    value: float
    density: Float[Array, " level"]


class _Half(NamedTuple):
    """A part of a trial's way of which the ends are known."""

    row: int
    left: _Point
    right: _Point

    @property
    def middle(self) -> float:
        return (self.left.place + self.right.place) / 2

    @property
    def parts(self) -> Float[Array, " level"]:
        """What each level gains, by the trapezium rule."""
        return (self.right.place - self.left.place) / 2 * (self.left.density + self.right.density)

    def is_flat(self, tolerance: float) -> bool:
        """Tell whether neither A nor what its levels add up to rises here, as before and after an abrupt change."""
        return max(abs(self.right.value - self.left.value), abs(float(self.parts.sum()))) <= tolerance / 2


class _Panel(NamedTuple):
    """A part of a trial's way of which the middle is known too."""

    row: int
    left: _Point
    middle: _Point
    right: _Point

    @property
    def rise(self) -> float:
        return self.right.value - self.left.value

    @property
    def parts(self) -> Float[Array, " level"]:
        """What each level gains, by Simpson's rule."""
        width = self.right.place - self.left.place
        return width / 6 * (self.left.density + 4 * self.middle.density + self.right.density)

    @property
    def halves(self) -> tuple[_Half, _Half]:
        return _Half(self.row, self.left, self.middle), _Half(self.row, self.middle, self.right)


def _points(rows: Sequence[int], places: Sequence[float], found: Sweep, along: Array) -> list[_Point]:
    """Return what a sweep tells of each of its rows; with u = v^2, du = 2 v dv."""
    values, gradients = found.value.cpu().numpy(), found.gradient.cpu().numpy()
    return [
        _Point(place, float(value), 2 * place * along[row] * gradient)
        for row, place, value, gradient in zip(rows, places, values, gradients, strict=True)
    ]
