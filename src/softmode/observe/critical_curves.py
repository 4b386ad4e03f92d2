"""Curves that follow from a correlation length and mode gains along a generation: growth, eigenvalues, xi_eq."""

from jaxtyping import Float
from torch import Tensor

from softmode.critical import fit_dispersion, growth_rate
from softmode.estimate import Array
from softmode.observe.state import Variable
from softmode.process import Convention, Process

MODES = ("time", "shell", "axis")
CRITICAL_CURVES = {
    "growth": Variable(("time",), "-d xi_x / d log t, smoothed", "site", "E.7"),
    "gain": Variable(MODES, "mode gain G_n", "1", "v.(dD/dx)v"),
    "eigenvalue": Variable(MODES, "drift eigenvalue lambda_n", "1 / process time", "Eq. 64"),
    "xi_eq_drift": Variable(("time",), "xi_eq from lambda_n of the drift", "site", "Eq. 69"),
    "xi_eq_gain": Variable(("time",), "xi_eq from 1 - G_n", "site", "Eq. 69 without a convention"),
    "xi_eq_free": Variable(("time",), "xi_eq from 1 - G_n, free intercept", "site", "shells n >= 1 only"),
    "growing_edge": Variable(("time",), "largest growing wavenumber k*", "radian per site", "lambda(k*) = 0"),
}


def critical_curves(
    process: Process,
    times: Float[Tensor, " time"],
    k: Float[Tensor, "shell axis"],
    xi: Array,
    gain: Float[Tensor, "*trajectory time shell axis"],
    convention: Convention = "sde",
) -> dict[str, Array]:
    """Return the arrays of CRITICAL_CURVES.

    Args:
        process: Whose drift the eigenvalues are of.
        times: Measured times.
        k: Wavenumbers (radians per site).
        xi: Correlation lengths [..., time] (sites).
        gain: Mode gains.
        convention: Which drift: of the reverse SDE or of the probability flow.
    """
    eigenvalue = process.eigenvalue(gain.double(), times[:, None, None], convention).numpy()
    drift, free = fit_dispersion(eigenvalue, k.numpy()), 1 - gain.double().numpy()
    return {
        "growth": growth_rate(xi, times.numpy()),
        "gain": gain.double().numpy(),
        "eigenvalue": eigenvalue,
        "xi_eq_drift": drift.length,
        "growing_edge": drift.growing_edge,
        "xi_eq_gain": fit_dispersion(free, k.numpy()).length,
        "xi_eq_free": fit_dispersion(free, k.numpy(), "free").length,
    }
