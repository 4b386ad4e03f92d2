r"""The dispersion $\lambda_n = \lambda_0 + b k_n^2$ fitted to mean rates by generalised least squares."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from softmode.critical import FIT_SHELLS, Dispersion
from softmode.estimate import Array, Estimate

# chi square per degree of freedom from which on a fit is none
MISFIT = 4.0
# factor to which a length must be known
KNOWN = 10.0
# rate below which there is none
LEAST_RATE = 1e-12


class WeightedFit(NamedTuple):
    """A fit to the mean rates of some trajectories at every time.

    Attributes:
        dispersion: lambda_0 and b, [time].
        left_out: The same without each of the trajectories, [trajectory, time].
        misfit: Chi square per degree of freedom, [time]; far above 1 where the rates are not quadratic in k.
    """

    dispersion: Dispersion
    left_out: Dispersion
    misfit: Float[Array, " time"]

    def length(self, place: int) -> Estimate:
        r"""Return $\xi_{\mathrm{eq}} = \sqrt{b/\lambda_0}$ (sites) at a time, its error by the jackknife.

        Where the rates are not quadratic in k, the error is enlarged by the root of the misfit.
        """
        value, without = float(self.dispersion.length[place]), self.left_out.length[:, place]
        count = len(without)
        if not (math.isfinite(value) and np.isfinite(without).all() and value > 0):
            return Estimate.missing(count, "lambda_0 or the curvature is not positive")
        logs = np.log(without)
        relative = math.sqrt((count - 1) / count * float(np.square(logs - logs.mean()).sum()))
        relative *= math.sqrt(self.misfit[place]) if self.misfit[place] > MISFIT else 1.0
        reach = math.exp(min(float(stats.t.ppf(0.975, count - 1)) * relative, 100.0))
        if reach > KNOWN:
            return Estimate.missing(count, f"not known to a factor of {KNOWN:g}")
        return Estimate(value, value * relative, count, value / reach, value * reach)


def weighted_fit(
    values: Float[Array, "trajectory time shell axis"],
    k: Float[Array, "shell axis"],
    shells: tuple[int, ...] = FIT_SHELLS,
) -> WeightedFit:
    r"""Fit $\lambda_n = \lambda_0 + b k_n^2$ to the constant mode and the lowest shells of mean rates.

    The weights are the inverse of the covariance over trajectories, whose correlations are shrunk towards none as far
    as they are noise. `fit_dispersion` weighs by k^2 instead, and takes the measured lambda_0 for exact.

    Args:
        values: Restoring rates of every trajectory, drift eigenvalues or 1 - G_n; at least four trajectories.
        k: Wavenumbers (radians per site).
        shells: Shells of the fit beside the constant mode.

    Source: paper Eq. 69, fitted as aitken1936 does; the shrinkage is that of schafer2005.
    """
    chosen = list(shells)
    rows = np.concatenate([values[:, :, :1].mean(3), values[:, :, chosen].reshape(*values.shape[:2], -1)], 2)
    rows = rows.swapaxes(0, 1).astype(float)
    square = np.concatenate([[0.0], (k[chosen] ** 2).ravel()])
    design = np.stack([np.ones_like(square), square], 1)
    fitted, misfit = _fit(rows, design)
    without = [_fit(np.delete(rows, i, 1), design)[0] for i in range(rows.shape[1])]
    both = np.stack(without)
    return WeightedFit(Dispersion(*fitted.T), Dispersion(both[..., 0], both[..., 1]), misfit)


def _fit(
    rows: Float[Array, "time trajectory mode"], design: Float[Array, "mode 2"]
) -> tuple[Float[Array, "time 2"], Float[Array, " time"]]:
    """Return the two coefficients at every time, and the misfit."""
    mean, covariance = rows.mean(1), _shrunk(rows) / rows.shape[1]
    # rates of nothing at all have no errors to weigh them by
    lost = np.abs(rows).max((1, 2)) < LEAST_RATE
    covariance[lost] = np.eye(rows.shape[2])
    weights = np.linalg.inv(covariance)
    normal = design.T @ weights @ design
    fitted = np.linalg.solve(normal, design.T @ weights @ mean[..., None])[..., 0]
    fitted[lost] = np.nan
    left = mean - fitted @ design.T
    return fitted, np.einsum("ti,tij,tj->t", left, weights, left) / (mean.shape[1] - 2)


def _shrunk(rows: Float[Array, "time trajectory mode"]) -> Float[Array, "time mode mode"]:
    """Return the covariance with its correlations multiplied by the share of them that is not noise."""
    count, modes = rows.shape[1:]
    # a mode without any spread is exact, up to rounding
    least = 1e-9 * np.maximum(np.abs(rows).max((1, 2)), 1e-300)[:, None]
    spread = np.maximum(rows.std(1, ddof=1), least)
    unit = (rows - rows.mean(1, keepdims=True)) / spread[:, None]
    products = unit[..., :, None] * unit[..., None, :]
    off = ~np.eye(modes, dtype=bool)
    correlation = np.where(off, products.sum(1) / (count - 1), 0.0)
    noise = np.where(off, count * products.var(1, ddof=1) / (count - 1) ** 2, 0.0)
    kept = 1 - np.minimum(1.0, noise.sum((1, 2)) / np.maximum((correlation**2).sum((1, 2)), 1e-300))
    return (kept[:, None, None] * correlation + np.eye(modes)) * spread[:, :, None] * spread[:, None]
