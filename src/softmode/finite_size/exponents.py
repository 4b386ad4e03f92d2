"""Exponents at the transition from how observables grow with the side, and the collapse of their curves."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from softmode.estimate import Array, Estimate, from_replicates
from softmode.finite_size.curves import Curves
from softmode.finite_size.scaling import ORDER, ScalingFit
from softmode.message import refusal


class Power(NamedTuple):
    """An observable's power of the side at the transition.

    Attributes:
        name: The observable.
        exponent: Its power of L.
        chi2: Weighted squares of the residuals.
        dof: Degrees of freedom.
    """

    name: str
    exponent: Estimate
    chi2: float
    dof: int


class Collapse(NamedTuple):
    r"""Scaled curves, which fall on one where scaling holds.

    Attributes:
        side: L of every point.
        x: $(t - t_c) L^{1/\nu}$.
        y: The observable over its power of L.
        stderr: Standard error of y.
        chi2: Weighted squares of what one polynomial in x leaves of y, without any correction to scaling.
        dof: Degrees of freedom.
    """

    side: Int[np.ndarray, " point"]
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    stderr: Float[np.ndarray, " point"]
    chi2: float
    dof: int


def power(curves: Curves, name: str, fit: ScalingFit, omega: float | None, order: int = ORDER) -> Power:
    r"""Return an observable's power of the side at t_c, $\beta/\nu = -p$ of |m| and $\gamma/\nu = p$ of chi.

    All points are fitted at once, $\log O = p\log L + \sum_j c_j [u L^{1/\nu}]^j + e\,(t - t_c) + d L^{-\omega}$ with
    the fit's scaling field u and an analytic factor, and every resample with its own t_c, nu and u, whose errors the
    exponent's thus contains.

    Args:
        curves: Curves of the observable, with the same resamples as those that were fitted.
        name: The observable.
        fit: The critical point.
        omega: Exponent of the correction; None for none.
        order: Order of the polynomial.

    Raises:
        ValueError: If there are too few points or sides, or other resamples.

    Source: binder1981.
    """
    sides = np.unique(curves.side)
    parameters = order + 3 + (omega is not None)
    dof = len(curves.side) - parameters
    if dof < 1 or len(sides) < 2 + (omega is not None) or len(curves.replicates) != len(fit.replicates):
        raise refusal(
            f"curves: got {len(curves.side)} points of {len(sides)} sides; expected more than {parameters}, with the "
            "resamples of the fit: add sides or points near the transition"
        )
    logs = curves.select(name).mapped(np.log)
    weight = logs.weights()[:, 0]
    places = np.concatenate([[[fit.t_c.value, 1 / fit.nu.value, fit.bend.value]], fit.replicates])
    rows = np.concatenate([logs.values[None], logs.replicates])[..., 0]
    found = np.full(len(places), np.nan)
    defined = np.isfinite(places).all(1)
    middle = np.log(curves.side).mean()
    length = np.log(curves.side) - middle
    t_c, inverse_nu, bend = places[defined].T[..., None]
    shifted, scale = curves.control - t_c, np.ptp(curves.control)
    u = (shifted + bend * shifted**2) * np.exp(inverse_nu * length) / scale
    columns = [np.broadcast_to(length, u.shape), *(u**j for j in range(order + 1)), shifted / scale]
    if omega is not None:
        columns.append(np.broadcast_to(np.exp(-omega * length), u.shape))
    design = weight[:, None] * np.stack(columns, -1)
    target = weight * rows[defined]
    solved = (np.linalg.pinv(design) @ target[..., None])[..., 0]
    found[defined] = solved[:, 0]
    left = target[0] - design[0] @ solved[0]
    exponent = from_replicates(float(found[0]), found[1:], int(curves.units.min()))
    return Power(name, exponent, float((left**2).sum()), dof)


def collapse(
    curves: Curves, name: str, t_c: float, nu: float, exponent: float = 0.0, order: int = 2 * ORDER
) -> Collapse:
    """Return the scaled curves of an observable, and how far they are from one polynomial.

    Args:
        curves: Curves of the observable.
        name: The observable.
        t_c: Critical control.
        nu: Exponent of the correlation length.
        exponent: The observable's power of the side, 0 for U4 and xi/L.
        order: Order of the polynomial.

    Raises:
        ValueError: If there are no more points than coefficients.
    """
    dof = len(curves.side) - order - 1
    if dof < 1:
        raise refusal(f"curves: got {len(curves.side)} points; expected more than {order + 1}: measure more of them")
    chosen = curves.select(name)
    factor = curves.side**-exponent
    x = (curves.control - t_c) * curves.side ** (1 / nu)
    y, weight = factor * chosen.values[:, 0], chosen.weights()[:, 0] / factor
    design: Array = weight[:, None] * np.vander(x / np.abs(x).max(), order + 1)
    left = weight * y - design @ np.linalg.lstsq(design, weight * y, rcond=None)[0]
    return Collapse(curves.side, x, y, 1 / weight, float((left**2).sum()), dof)
