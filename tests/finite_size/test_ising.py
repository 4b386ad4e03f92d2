"""The whole chain on the model whose answer is known: the Ising model on a square, onsager1944 and salas2000."""

import numpy as np
import pytest

from helpers.ising import CRITICAL, ising
from softmode.finite_size.crossings import crossings, ends
from softmode.finite_size.curves import Curves
from softmode.finite_size.exponents import power
from softmode.finite_size.scaling import OMEGA, ScalingFit, joint_fit

# measurements at each of the seven temperatures of a side, about as much time for every side
MEASUREMENTS = {6: 40_000, 8: 40_000, 12: 25_000, 16: 14_000, 24: 8_000, 32: 5_000}
UNITS, CLUSTERS = 200, 3


@pytest.fixture(scope="module")
def curves() -> Curves:
    return Curves.of(
        [
            ising(side, CRITICAL + x / side, UNITS, count // UNITS, CLUSTERS)
            for side, count in MEASUREMENTS.items()
            for x in np.linspace(-1.2, 1.2, 7)
        ],
        ("U4", "xi/L", "|m|", "chi"),
    )


@pytest.fixture(scope="module")
def fit(curves) -> ScalingFit:
    return joint_fit(curves.select("U4", "xi/L"), OMEGA[2])


def test_the_critical_point(fit):
    """T_c, nu and both universal values within 4 standard errors, T_c to 0.2 % and nu to 2 %."""
    true = [(fit.t_c, CRITICAL), (fit.nu, 1.0), (fit.fixed["U4"], 0.61069), (fit.fixed["xi/L"], 0.9050488)]
    for estimate, value in true:
        assert abs(estimate.value - value) < 4 * estimate.stderr
    assert fit.t_c.value == pytest.approx(CRITICAL, rel=0.002)
    assert fit.t_c.stderr < 0.001 * CRITICAL
    assert fit.nu.value == pytest.approx(1, rel=0.02)
    assert fit.nu.stderr < 0.03
    assert fit.fixed["U4"].stderr < 0.003
    assert 1e-4 < fit.p_value < 1 - 1e-4


def test_the_exponents(curves, fit):
    """beta/nu = 1/8 and gamma/nu = 7/4."""
    for name, value in (("|m|", -1 / 8), ("chi", 7 / 4)):
        found = power(curves, name, fit, OMEGA[2], order=4)
        assert abs(found.exponent.value - value) < 4 * found.exponent.stderr < 0.1
        assert found.chi2 < found.dof + 4 * np.sqrt(2 * found.dof)


def test_pairs_cross(curves):
    """All neighbours do, the larger ones within their errors at T_c."""
    for name in ("U4", "xi/L"):
        assert all(each.cross for each in ends(curves, name))
        last = crossings(curves, name)[-1]
        assert last.sides == (24, 32)
        assert abs(last.control.value - CRITICAL) < 4 * last.control.stderr < 0.1
