r"""The joint fit of all sides near a continuous transition, with its first correction to scaling.

$$ R(L, t) = \sum_{j=0}^{J} a_j\left[u\,L^{1/\nu}\right]^j + L^{-\omega}\left(b_0 + b_1 u\,L^{1/\nu}\right),
\qquad u = (t - t_c) + c\,(t - t_c)^2 $$

for $U_4$ and $\xi/L$ at once, which share t_c, nu and c and have the other coefficients to themselves. The control is
no scaling field but an analytic function of it, hence c: without it and b_1 small sides tilt nu by some per cent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import chi2

from softmode.estimate import Array, Estimate, from_replicates
from softmode.finite_size.curves import Curves
from softmode.message import refusal

# J: what U4 and xi/L of the Ising model need within |t - t_c| L^(1/nu) of about 1
ORDER = 3
# exponent of the first correction of U4 and xi/L in the Ising class: the analytic background of the susceptibility in
# two dimensions (salas2000), the leading irrelevant field in three (hasenbusch2010)
OMEGA = {2: 1.75, 3: 0.832}
# starting values of the critical point, as shares of the range, and of 1/nu
STARTS, INVERSE_NU = np.linspace(0.05, 0.95, 13), np.array([0.5, 1.0, 1.6, 2.5])
# t_c, 1/nu and c
SHARED = 3
# Gauss-Newton steps from all starts, how many of these are worth more, their steps, and those of most resamples
FIRST, BEST, FAR, NEAR = 6, 6, 60, 10
# longest step in t_c, as a share of the range, in 1/nu, and in c times the range
LONGEST = np.array([0.1, 0.2, 0.2])
# steps of a converged fit, as shares of the longest
CONVERGED = 1e-5
# what keeps normal equations of unit columns solvable where these depend on each other
RIDGE = 1e-12


@dataclass(frozen=True, eq=False)
class ScalingFit:
    """A critical point with its exponent and universal values.

    Args:
        sides: Sides that were fitted.
        t_c: Control at the transition.
        nu: Exponent of the correlation length.
        fixed: The value of every observable at the transition on an infinite lattice, a_0.
        corrections: b_0 of every observable; nothing where no correction was fitted.
        chi2: Weighted squares of the residuals.
        dof: Degrees of freedom.
        expected: Mean and variance of chi^2, were the model right.
        bend: c.
        replicates: t_c, 1/nu and c of every resample of the curves.
    """

    sides: tuple[int, ...]
    t_c: Estimate
    nu: Estimate
    fixed: Mapping[str, Estimate]
    corrections: Mapping[str, Estimate]
    chi2: float
    dof: int
    expected: tuple[float, float]
    bend: Estimate
    replicates: Float[np.ndarray, "resample 3"]

    @property
    def p_value(self) -> float:
        r"""Chance of a chi^2 at least as large, were the model right, of observables that vary together.

        $g\chi^2_f$ with the mean and the variance that their correlations and the fit make of chi^2.

        Source: satterthwaite1946.
        """
        mean, variance = self.expected
        factor = variance / (2 * mean)
        return float(chi2.sf(self.chi2 / factor, mean / factor))


def joint_fit(curves: Curves, omega: float | None, order: int = ORDER) -> ScalingFit:
    r"""Fit every observable of the curves at once, with errors by the bootstrap over the units that they share.

    Each value has the weight of its own variance: U4 and xi/L of the same units are so alike that their inverse
    covariance would weigh their difference most, in which the neglected corrections do not cancel. How they vary
    together is in the resamples, thus in every error, and in the p-value.

    Args:
        curves: Points near the transition, of at least three sides with a correction and two without.
        omega: Exponent of the correction, as `OMEGA` has it; None for no correction.
        order: J.

    Raises:
        ValueError: If there are too few sides or points, or no fit has its critical point within the range.

    Source: binder1981 for the form; salas2000 and hasenbusch2010 for the corrections.
    """
    sides = tuple(int(side) for side in np.unique(curves.side))
    model = _Model.of(curves, omega, order)
    least, dof = 2 if omega is None else 3, curves.values.size - model.parameters
    if len(sides) < least or dof < 1:
        raise refusal(
            f"curves: got {curves.values.size} values of {len(sides)} sides; expected more than {model.parameters} "
            f"of at least {least}: add sides or points near the transition"
        )
    low, high = curves.control.min(), curves.control.max()
    starts = np.stack(np.meshgrid(low + STARTS * (high - low), INVERSE_NU, [0.0]), -1).reshape(-1, SHARED)
    # a few steps tell which starts are worth more
    first, _, misfit = model.minimised(curves.values[None], starts, FIRST, lasting=False)
    promising = first[np.argsort(misfit)[:BEST]]
    found, coefficients, misfit = model.minimised(curves.values[None], promising, FAR)
    inside = (found[:, 0] > low) & (found[:, 0] < high) & (found[:, 1] > 0)
    if not inside.any():
        raise refusal(f"curves: got no critical point in [{low:g}, {high:g}]; expected one: see where the curves cross")
    best = int(np.nanargmin(np.where(inside, misfit, np.nan)))
    start = np.repeat(found[best][None], len(curves.replicates), 0)
    drawn, others, _ = model.minimised(curves.replicates, start, NEAR)
    # resamples that need more steps are the unlike ones: without them every error would be too small
    slow = np.isnan(drawn[:, 0])
    if slow.any():
        drawn[slow], others[slow], _ = model.minimised(curves.replicates[slow], start[slow], FAR)
    units = int(curves.units.min())

    def estimates(column: int, factor: float = 1.0) -> dict[str, Estimate]:
        every = enumerate(curves.names)
        return {
            name: from_replicates(factor * coefficients[best, o, column], factor * others[:, o, column], units)
            for o, name in every
        }

    with np.errstate(divide="ignore"):
        nu = from_replicates(1 / found[best, 1], 1 / drawn[:, 1], units)
    return ScalingFit(
        sides,
        from_replicates(float(found[best, 0]), drawn[:, 0], units),
        nu,
        estimates(0),
        {} if omega is None else estimates(order + 1, model.middle**omega),
        float(misfit[best]),
        dof,
        model.expected(found[best : best + 1], curves),
        from_replicates(float(found[best, 2]), drawn[:, 2], units),
        drawn,
    )


def scan(curves: Curves, omega: float | None, order: int = ORDER) -> list[ScalingFit]:
    """Return the joint fit of all sides, without the smallest, without the two smallest, as long as there are enough.

    Args:
        curves: Points near the transition.
        omega: Exponent of the correction; None for none.
        order: J.

    Raises:
        ValueError: If not even all sides are enough.
    """
    fits = [joint_fit(curves, omega, order)]
    for smallest in fits[0].sides[1:]:
        try:
            fits.append(joint_fit(curves.where(curves.side >= smallest), omega, order))
        except ValueError:
            break
    return fits


@dataclass(frozen=True, eq=False)
class _Model:
    """The function that is fitted, at the points of the curves; lengths in units of the middle side."""

    control: Float[np.ndarray, " point"]
    log_side: Float[np.ndarray, " point"]
    scale: float
    middle: float
    weights: Float[np.ndarray, "point observable"]
    omega: float | None
    order: int

    @classmethod
    def of(cls, curves: Curves, omega: float | None, order: int) -> "_Model":
        middle = float(np.exp(np.log(curves.side).mean()))
        scale = float(np.ptp(curves.control)) or 1.0
        logs = np.log(curves.side / middle)
        return cls(curves.control, logs, scale, middle, curves.weights(), omega, order)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return SHARED + self.weights.shape[1] * (self.order + 1 + 2 * (self.omega is not None))

    def minimised(
        self,
        data: Float[np.ndarray, "#start point observable"],
        starts: Float[np.ndarray, "start 3"],
        steps: int,
        lasting: bool = True,
    ) -> tuple[Float[np.ndarray, "start 3"], Float[np.ndarray, "start observable column"], Float[np.ndarray, " start"]]:
        """Return t_c, 1/nu and c, the coefficients and the misfit from every start; NaN where none lasts, if it must.

        Coefficients are linear: they are solved for at every step, which is Gauss and Newton's in t_c, 1/nu and c
        (variable projection).

        Source: golub1973.
        """
        place, longest = starts.copy(), LONGEST * np.array([self.scale, 1.0, 1 / self.scale])
        target = self.weights * data
        for _ in range(steps):
            coefficients, _, jacobian, left = self._linearised(place, target)
            step = _solve(jacobian, left[..., None])[..., 0]
            lost = ~(np.abs(np.nan_to_num(step, nan=np.inf)) < CONVERGED * longest).all(1)
            if not lost.any():
                break
            place = place + np.clip(np.nan_to_num(step), -longest, longest)
        misfit = (left**2).sum(1)
        if not lasting:
            return place, coefficients, misfit
        place[lost], coefficients[lost], misfit[lost] = np.nan, np.nan, np.nan
        return place, coefficients, misfit

    def expected(self, place: Float[np.ndarray, "1 3"], curves: Curves) -> tuple[float, float]:
        r"""Return mean and variance of chi^2, $\mathrm{tr}\,PC$ and $2\,\mathrm{tr}\,PCPC$.

        P projects on what the fit leaves, C holds the correlations of the values.
        """
        design, free, _ = self._linearised(place, self.weights * curves.values[None])[1:]
        observables, points = design.shape[1:3]
        left = np.eye(observables * points).reshape(observables, points, observables, points)
        correlated = np.zeros_like(left)
        at = np.arange(points)
        for o in range(observables):
            q = np.linalg.qr(design[0, o])[0]
            left[o, :, o] -= q @ q.T
            for other in range(observables):
                correlated[o, at, other, at] = curves.correlations()[:, o, other]
        q = np.linalg.qr(free[0])[0]
        size = observables * points
        product = (left.reshape(size, size) - q @ q.T) @ correlated.reshape(size, size)
        return float(np.trace(product)), 2 * float((product * product.T).sum())

    def _linearised(self, place: Array, target: Array) -> tuple[Array, Array, Array, Array]:
        """Return the best coefficients at t_c, 1/nu and c, weighted derivatives by them and by those, and residuals."""
        t_c, inverse_nu, bend = place.T[..., None]
        shifted, stretch = self.control - t_c, np.exp(inverse_nu * self.log_side) / self.scale
        u = (shifted + bend * shifted**2) * stretch
        columns = [u**j for j in range(self.order + 1)]
        gradient = [j * u ** max(j - 1, 0) for j in range(self.order + 1)]
        if self.omega is not None:
            small = np.broadcast_to(np.exp(-self.omega * self.log_side), u.shape)
            columns += [small, small * u]
            gradient += [np.zeros_like(u), small]
        weights = self.weights.T[:, :, None]
        # every observable has coefficients of its own
        design = weights * np.stack(columns, -1)[:, None]
        own = np.moveaxis(np.broadcast_to(target, (len(u), *target.shape[1:])), 2, 1)
        coefficients = _solve(design, own[..., None])[..., 0]
        left = own - (design @ coefficients[..., None])[..., 0]
        slope = (np.stack(gradient, -1)[:, None] @ coefficients[..., None])[..., 0]
        derivatives = np.stack([-(1 + 2 * bend * shifted) * stretch, u * self.log_side, shifted**2 * stretch], -1)
        along = weights * slope[..., None] * derivatives[:, None]
        # what the coefficients can follow is no derivative of the misfit (Kaufman's form of variable projection)
        free = along - design @ _solve(design, along)
        return coefficients, design, free.reshape(len(u), -1, SHARED), left.reshape(len(u), -1)


def _solve(
    design: Float[np.ndarray, "*start row column"], target: Float[np.ndarray, "*start row right"]
) -> Float[np.ndarray, "*start column right"]:
    """Return least-squares solutions, NaN where a column is not finite."""
    size = np.linalg.norm(design, axis=-2, keepdims=True)
    usable = np.isfinite(size).all((-2, -1), keepdims=True)
    size = np.where(usable & (size > 0), size, 1.0)
    columns = np.where(usable, design / size, 0.0)
    normal = columns.swapaxes(-1, -2) @ columns + RIDGE * np.eye(design.shape[-1])
    solved = np.linalg.solve(normal, columns.swapaxes(-1, -2) @ target) / size.swapaxes(-1, -2)
    return np.asarray(np.where(usable, solved, np.nan))
