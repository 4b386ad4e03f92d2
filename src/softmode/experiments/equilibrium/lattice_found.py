r"""What a finite-size run found: the transition, its universality class, and how both depend on the step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import chi2

from softmode.estimate import Array, Estimate, from_replicates
from softmode.exact.dictionary import parse_dictionary
from softmode.experiments.equilibrium.lattice_measure import EQUILIBRIUM
from softmode.experiments.equilibrium.lattice_stages import FEW, Seen, refined
from softmode.finite_size.crossings import ends
from softmode.finite_size.curves import Curves
from softmode.finite_size.exponents import Collapse, Power, collapse, power
from softmode.finite_size.moments import OBSERVABLES, Moments
from softmode.finite_size.scaling import OMEGA, ScalingFit, scan
from softmode.lattice import ReceptiveField
from softmode.message import refusal
from softmode.process import Process, parse_process
from softmode.runs.run import Run

# values of the Ising class on a periodic square and cube: U4, xi/L, nu, beta/nu, gamma/nu
ISING: Mapping[int, Mapping[str, float]] = {
    2: {"U4": 0.61069, "xi/L": 0.9050488, "nu": 1.0, "beta/nu": 0.125, "gamma/nu": 1.75},
    3: {"U4": 0.46548, "xi/L": 0.64312, "nu": 0.629971, "beta/nu": 0.518149, "gamma/nu": 1.963702},
}
ISING_SOURCE = {2: "salas2000", 3: "hasenbusch2010, kos2016"}
# chance of a misfit below which the smallest side is left out
FITS = 0.05
# U4 at which curves of two steps are compared, and the order of the polynomials that stand for them
COMPARED, CUBIC = 0.61, 3
# a distribution of two phases at once drives U4 below this
COEXISTENCE = -0.05


@dataclass(frozen=True, eq=False)
class Found:
    """What the stages of a run say together.

    Args:
        run: The run.
        seen: Its main stage.
        halved: The stage with half the step.
        process: Gives noise levels.
    """

    run: Run
    seen: Seen
    halved: Seen
    process: Process

    @classmethod
    def of(cls, run: Run) -> "Found":
        """Return that of a run's directory, which holds the stages before below it."""
        config = run.config
        sides, dimensions = config["sizes"], config["dimensions"]
        stage = run.identity["stage"]
        if stage != "main":
            raise refusal(f"{run.directory.name}: is the stage {stage!r} of a finite-size run; look at the run itself")
        half = Run(run.directory / "half", EQUILIBRIUM)
        return cls(run, Seen.of(run.dataset, sides, dimensions), Seen.of(half.dataset, sides[:FEW], dimensions),
                   parse_process(config["schedule"]))  # fmt: skip

    @property
    def dimensions(self) -> int:
        """The number d of axes."""
        return int(self.run.config["dimensions"])

    @cached_property
    def field(self) -> ReceptiveField:
        """The receptive field Omega."""
        return ReceptiveField.parse(self.run.config["receptive_field"], self.dimensions)

    @cached_property
    def omega(self) -> float:
        """|Omega|, or Omega_eff of a dictionary."""
        config = self.run.config
        if config["dictionary"] == "two-state":
            return float(self.field.size)
        return parse_dictionary(config["dictionary"], config["seed"], self.field).omega_eff

    @cached_property
    def quoted(self) -> list[Moments]:
        """Points whose series are at equilibrium and long enough to be quoted."""
        return [point for s in range(len(self.seen.sides)) for point in self.seen.quoted(s)]

    @cached_property
    def curves(self) -> Curves:
        """Curves of all observables at the quoted points; where there are none, at all, to be looked at."""
        return Curves.of(self.quoted or [point for row in self.seen.points for point in row], OBSERVABLES)

    @cached_property
    def fits(self) -> list[ScalingFit]:
        """The joint fit of U4 and xi/L, with ever more of the smallest sides left out; none where nothing crosses."""
        # in one dimension nothing of finite range orders, however curves of a few sides may cross
        if not self.quoted or self.dimensions == 1:
            return []
        try:
            curves = self.curves.select("U4", "xi/L")
            crossed = any(each.cross for each in ends(curves, "xi/L"))
            return scan(curves, OMEGA.get(self.dimensions)) if crossed else []
        except ValueError:  # too few points that can be quoted, or no critical point among them
            return []

    @cached_property
    def described(self) -> ScalingFit | None:
        """The fit of most sides that describes them; the last one where none does."""
        good = [fit for fit in self.fits if fit.p_value >= FITS]
        return good[0] if good else (self.fits[-1] if self.fits else None)

    @cached_property
    def where(self) -> float:
        """Time of the transition, or where it was sought last."""
        return self.described.t_c.value if self.described else refined(self.seen, self.dimensions)[0]

    @cached_property
    def at_transition(self) -> Array:
        """Whether the points on both sides of the transition may be quoted, of every side L."""
        places = [int(np.clip(np.searchsorted(row, self.where), 1, len(row) - 1)) for row in self.seen.times]
        return np.array([sure[p - 1 : p + 1].all() for sure, p in zip(self.seen.sure, places, strict=True)])

    @property
    def refused(self) -> bool:
        """Whether nothing may be quoted: no side has series that are long enough where it orders."""
        return not self.quoted or (self.dimensions > 1 and not self.at_transition.any())

    @property
    def fit(self) -> ScalingFit | None:
        """The fit that is quoted; none where nothing may be."""
        return None if self.refused else self.described

    @cached_property
    def shift(self) -> Estimate:
        """Time of the transition with half the step less that with the whole one, by where U4 of a side is 0.61."""
        shifts, units = [], 0
        for s in range(len(self.halved.sides)):
            points = [seen.quoted(s) for seen in (self.halved, self.seen)]
            if min(map(len, points)) <= CUBIC:
                continue
            difference = _crossed(points[0]) - _crossed(points[1])
            if np.isfinite(difference).mean() > 0.9:
                shifts.append(difference)
                units = len(points[0][0].means)
        if not shifts:
            return Estimate.missing(0, "no side can be quoted with both steps")
        table = np.stack(shifts)
        weights = 1 / np.nanvar(table[:, 1:], axis=1)
        mean = weights @ table / weights.sum()
        return from_replicates(float(mean[0]), mean[1:], units)

    @cached_property
    def t_c(self) -> Estimate:
        """The transition without a step: linear in it, as a score that is no gradient leaves it at worst."""
        assert self.fit is not None
        at, shift = self.fit.t_c, self.shift
        if math.isnan(shift.value):
            return at
        value, error = at.value + 2 * shift.value, math.hypot(at.stderr, 2 * shift.stderr)
        return Estimate(value, error, at.samples, value - 1.96 * error, value + 1.96 * error, at.reason)

    @cached_property
    def powers(self) -> dict[str, Power]:
        """The powers of |m| and chi."""
        assert self.fit is not None
        omega = OMEGA.get(self.dimensions)
        kept = self.curves.where(self.curves.side >= min(self.fit.sides))
        try:
            return {name: power(kept, name, self.fit, omega) for name in ("|m|", "chi")}
        except ValueError:
            return {}

    @cached_property
    def collapses(self) -> dict[str, Collapse]:
        """U4 and |m| of all fitted sides, scaled, without corrections; those that could be had."""
        assert self.fit is not None
        kept = self.curves.where(self.curves.side >= min(self.fit.sides))
        powers = {"U4": 0.0} | ({"|m|": self.powers["|m|"].exponent.value} if self.powers else {})
        t_c, nu = self.fit.t_c.value, self.fit.nu.value
        try:
            return {name: collapse(kept, name, t_c, nu, exponent) for name, exponent in powers.items()}
        except ValueError:
            return {}

    @cached_property
    def misfits(self) -> dict[str, str]:
        """What is worse described than chance allows, with chi^2: fits that give numbers, and collapses."""
        assert self.fit is not None
        fits = [("the joint fit of U4 and xi/L", self.fit.chi2, self.fit.dof, self.fit.p_value)]
        fits += [(f"the power of {name}", each.chi2, each.dof, float(chi2.sf(each.chi2, each.dof)))
                 for name, each in self.powers.items()]  # fmt: skip
        drawn = [(name, each.chi2, each.dof, float(chi2.sf(each.chi2, each.dof)))
                 for name, each in self.collapses.items()]  # fmt: skip
        return {
            kind: ", ".join(f"{what} (chi^2 = {square:.0f} for {dof} degrees of freedom)"
                            for what, square, dof, p in every if p < FITS)
            for kind, every in (("fits", fits), ("collapses", drawn))
        }  # fmt: skip

    def universal(self) -> dict[str, Estimate]:
        """Return U4*, xi/L*, nu, beta/nu and gamma/nu, those that could be had."""
        assert self.fit is not None
        found = {**self.fit.fixed, "nu": self.fit.nu}
        if self.powers:
            falls = self.powers["|m|"].exponent
            found["beta/nu"] = Estimate(-falls.value, falls.stderr, falls.samples, -falls.high, -falls.low)
            found["gamma/nu"] = self.powers["chi"].exponent
        return found

    @cached_property
    def least_binder(self) -> Estimate:
        """The lowest U4 of all points."""
        every = [point.observables()["U4"] for row in self.seen.points for point in row]
        return min(every, key=lambda each: each.value)


def _crossed(points: Sequence[Moments]) -> Array:
    """Return where U4 of a side falls through 0.61, of all units and of every resample; NaN where it does not."""
    curves = Curves.of(points, ("U4",))
    rows = np.concatenate([curves.values[None], curves.replicates])[..., 0]
    weight, times = curves.weights()[:, 0], curves.control
    centre, scale = times.mean(), np.ptp(times) / 2
    design = np.vander((times - centre) / scale, CUBIC + 1)
    coefficients = np.linalg.lstsq(weight[:, None] * design, weight[:, None] * rows.T, rcond=None)[0]
    grid = np.linspace(times.min(), times.max(), 401)
    above = np.vander((grid - centre) / scale, CUBIC + 1) @ coefficients - COMPARED
    falls = (above[:-1] >= 0) & (above[1:] < 0)
    first = falls.argmax(0)
    column = np.arange(above.shape[1])
    share = above[first, column] / (above[first, column] - above[first + 1, column])
    return np.where(falls.any(0), grid[first] + share * (grid[1] - grid[0]), np.nan)
