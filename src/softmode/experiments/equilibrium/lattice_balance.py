"""Whether the steady state of a finite-size run is one of equilibrium: its entropy production across the transition."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import xarray as xr

from softmode.estimate import NORMAL_95, Array, Estimate, of_mean
from softmode.experiments.equilibrium.lattice_found import Found
from softmode.experiments.equilibrium.lattice_measure import EQUILIBRIUM
from softmode.experiments.equilibrium.lattice_stages import BLOCKS, FEW, REPLICAS
from softmode.runs.results import Cell, Quantity, Table
from softmode.runs.run import Run

# standard errors from which on a production is seen
SEEN = 4.0
# times of the search that are told, relative to t_c
TOLD = (0.7, 2.0)
# error of states that all have the same, as where nothing responds
LEAST_ERROR = 1e-12
UNIT = "k_B per site and sigma^2"


class Point(NamedTuple):
    """What was measured at one noise level.

    Attributes:
        time: Process time.
        level: Noise level.
        production: e, in k_B per site and unit of tau.
        share: Of the Jacobian, what no gradient has; NaN where the denoiser does not respond at all.
    """

    time: float
    level: float
    production: Estimate
    share: Estimate


@dataclass(frozen=True, eq=False)
class Balance:
    """The entropy production of all stages of a run.

    Args:
        found: What the run found.
        main: Its arrays.
        half: Those of the stage with half the step.
        search: Those of the search.
    """

    found: Found
    main: xr.Dataset
    half: xr.Dataset
    search: xr.Dataset

    @classmethod
    def of(cls, found: Found) -> "Balance | None":
        """Return that of a run; None of one that was made before it was measured."""
        half = found.run.directory / "half"
        stages = found.run.dataset, *(Run(place, EQUILIBRIUM).dataset for place in (half, half / "coarse"))
        return cls(found, *stages) if all("production" in stage for stage in stages) else None

    @cached_property
    def curve(self) -> list[Point]:
        """The search, with its sides together by their sites.

        Below the transition, and where there is none, of ordered starts alone: in others walls live on.
        """
        weights = np.array(self.found.seen.sides[:FEW], float) ** self.found.dimensions
        values = np.average(self.search["production"].to_numpy(), axis=1, weights=weights)
        shares = self.search["irreciprocity"].to_numpy()[:, -1]
        made, edge = list[Point](), math.inf if self.found.fit is None else self.found.t_c.value
        times, levels = (self.search[name].to_numpy()[0, -1] for name in ("time", "level"))
        for k, time in enumerate(times.tolist()):
            starts = REPLICAS if time > edge else 1
            own = values[:, k, : starts * BLOCKS]
            made.append(Point(time, float(levels[k]), of_mean(own.ravel()), of_mean(shares[:, k])))
        return made

    def side(self, stage: xr.Dataset, side: int) -> list[Point]:
        """Return the points of one side of a later stage, of both starts."""
        times, levels = (stage[name].to_numpy()[0, side] for name in ("time", "level"))
        values, shares = (stage[name].to_numpy()[:, side] for name in ("production", "irreciprocity"))
        return [
            Point(float(times[k]), float(levels[k]), of_mean(values[:, k].ravel()), of_mean(shares[:, k]))
            for k in range(len(times))
        ]

    @cached_property
    def largest(self) -> list[Point]:
        """The points of the largest side."""
        return self.side(self.main, len(self.found.seen.sides) - 1)

    @cached_property
    def at_step(self) -> Estimate:
        """The production at t_c on the largest side, with the step of the run."""
        return _at(self.largest, self.found.t_c.value)

    @cached_property
    def shift(self) -> Estimate:
        """The production at t_c with half the step less that with the whole one, on the sides that have both."""
        at, differences = self.found.t_c.value, list[Estimate]()
        for side in range(len(self.found.halved.sides)):
            whole, half = (_at(self.side(stage, side), at) for stage in (self.main, self.half))
            differences.append(_estimate(half.value - whole.value, math.hypot(half.stderr, whole.stderr), half.samples))
        weights = np.array([each.stderr**-2 for each in differences])
        value = float(weights @ [each.value for each in differences] / weights.sum())
        return _estimate(value, float(weights.sum() ** -0.5), sum(each.samples for each in differences))

    @cached_property
    def at_transition(self) -> Estimate:
        """The production at t_c without a step: linear in it, as t_c is, and with the error that comes from t_c."""
        whole, shift = self.at_step, self.shift
        either = [_at(self.largest, self.found.t_c.value + way * self.found.t_c.stderr).value for way in (-1, 1)]
        error = math.hypot(whole.stderr, 2 * shift.stderr, (either[1] - either[0]) / 2)
        return _estimate(whole.value + 2 * shift.value, error, whole.samples)

    @property
    def most(self) -> Point:
        """The point of the search with the largest production."""
        return max(self.curve, key=lambda point: point.production.value)

    @property
    def said(self) -> str:
        """The verdict, in a sentence that follows the answer."""
        e = self.at_transition
        if e.value > SEEN * e.stderr:
            return f"It is no equilibrium: at t_c the steady state produces {e} k_B per site in a time sigma^2."
        return f"No entropy production is seen at t_c: {e} k_B per site in a time sigma^2."

    def quantities(self) -> list[Quantity]:
        """Return the production at t_c, and the share of the Jacobian that no gradient has."""
        near = min(self.largest, key=lambda point: abs(point.time - self.found.t_c.value))
        return [
            Quantity("entropy_production", 0, self.at_transition, f"at t_c without a step, {UNIT}", "", "seifert2012"),
            Quantity("irreciprocity", 0, near.share, "share of the Jacobian that no gradient has, near "
                     "t_c", "", "Eq. 9"),
        ]  # fmt: skip

    def table(self) -> Table:
        """Return the production below, at and above the transition."""
        curve, fit = self.curve, self.found.fit
        rows: list[tuple[Cell, ...]] = []
        if fit is None:
            rows += [_row(what, point, math.nan) for what, point in
                     (("least noise", curve[0]), ("most", self.most), ("most noise", curve[-1]))]  # fmt: skip
        else:
            t_c = self.found.t_c
            level = float(self.found.process.noise_level(t_c.value))
            below, above = (min(curve, key=lambda p: abs(p.time - share * t_c.value)) for share in TOLD)
            near = min(self.largest, key=lambda point: abs(point.time - t_c.value))
            at = Point(t_c.value, level, self.at_step, near.share)
            rows += [
                _row("below", below, level),
                _row("at t_c", at, level),
                _row("at t_c, no step", at._replace(production=self.at_transition), level),
                _row("most", self.most, level),
                _row("above", above, level),
                _row("far above", curve[-1], level),
            ]
        note = (
            f"e: entropy production, {UNIT}, 0 for the gradient of a density; with the step of the run, or, as "
            "half of it says, with none; irreciprocity: share of the Jacobian that no gradient "
            "has; at t_c: the largest side; elsewhere: the search on small ones, below t_c from ordered starts"
        )
        return Table("Is it in equilibrium?", ("where", "t", "sigma", "sigma/sigma_c", "e", "irreciprocity"),
                     tuple(rows), note)  # fmt: skip


def _row(what: str, point: Point, critical: float) -> tuple[Cell, ...]:
    return what, point.time, point.level, point.level / critical, point.production, point.share


def _estimate(value: float, error: float, samples: int) -> Estimate:
    return Estimate(value, error, samples, value - NORMAL_95 * error, value + NORMAL_95 * error)


def _at(points: Sequence[Point], time: float) -> Estimate:
    """Return the production at a time by a weighted parabola through points around it."""
    offset = np.array([point.time for point in points]) - time
    values, errors = (np.array([getattr(p.production, part) for p in points]) for part in ("value", "stderr"))
    errors = np.maximum(errors, LEAST_ERROR)
    design = np.vander(offset / np.ptp(offset), 3) / errors[:, None]
    covariance: Array = np.linalg.inv(design.T @ design)
    best = covariance @ design.T @ (values / errors)
    return _estimate(float(best[-1]), math.sqrt(covariance[-1, -1]), sum(p.production.samples for p in points))
