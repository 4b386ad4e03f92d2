"""Kibble and Zurek's exponents, freeze-out and fits against what is known exactly."""

import math

import numpy as np
import pytest
import torch

from softmode.formulas.kibble_zurek import (
    COARSENING,
    ISING,
    critical_level,
    freeze_out,
    length_exponent,
    misfit_probability,
    power_law,
)
from softmode.process import VE


def test_exponents_of_the_ising_model() -> None:
    """2-D Ising with model A: 0.316, well below coarsening's 1/2; mean field, nu = 1/2 and z = 2: 1/4."""
    assert length_exponent(*ISING[2]) == pytest.approx(0.3158, abs=1e-4)
    assert length_exponent(0.5, 2.0) == 0.25
    assert length_exponent(*ISING[3]) < length_exponent(*ISING[2]) < COARSENING


@pytest.mark.parametrize("rate", [0.7, 1.0, 5.0, 300.0, 1e5])
def test_freeze_out_of_exact_scaling(rate: float) -> None:
    """tau = tau_0 eps^(-nu z) meets R eps at (tau_0/R)^(1/(1 + nu z)), where xi grows like R^(nu/(1 + nu z))."""
    nu, z, tau_0 = 0.8, 2.3, 0.6
    distances = np.array([1.6, 0.9, 0.5, 0.2])
    found = freeze_out(distances, tau_0 * distances ** (-nu * z), 1.7 * distances**-nu, rate, nu, z)
    exact = (tau_0 / rate) ** (1 / (1 + nu * z))
    assert found.distance == pytest.approx(exact)
    assert found.length == pytest.approx(1.7 * exact**-nu)
    assert found.length / rate ** length_exponent(nu, z) == pytest.approx(1.7 * tau_0 ** (-nu / (1 + nu * z)))


def test_a_quench_that_is_too_fast_has_no_freeze_out_in_sight() -> None:
    """Where it is out of equilibrium at the farthest level already, nothing is known."""
    found = freeze_out(np.array([1.0, 0.5]), np.array([2.0, 4.0]), np.array([1.0, 2.0]), 1.9, 1.0, 2.0)
    assert math.isnan(found.distance)
    assert math.isnan(found.length)


def test_a_power_law_is_found_with_its_misfit() -> None:
    """Exactly where there is no noise; with noise as numpy's weighted fit, and chi^2 as its distribution says."""
    rng, x = np.random.default_rng(0), np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    error = np.array([0.01, 0.05, 0.02, 0.03, 0.01])
    exact = power_law(x, 3 * x**0.42, error)
    assert exact.exponent == pytest.approx(0.42)
    assert exact.chi_square == pytest.approx(0, abs=1e-9)
    y = 3 * x**0.42 * np.exp(error * rng.standard_normal((2000, 5)))
    found = power_law(x, y, error)
    assert found.exponent[7] == pytest.approx(np.polyfit(np.log(x), np.log(y[7]), 1, w=1 / error)[0])
    # three degrees of freedom: mean 3, variance 6
    assert abs(found.chi_square.mean() - 3) < 4 * math.sqrt(6 / 2000)
    shares = np.mean([misfit_probability(each, 3) < 0.05 for each in found.chi_square])
    assert abs(shares - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 2000)
    assert math.isnan(misfit_probability(1.0, 0))
    assert np.isnan(power_law(x, np.full(5, np.nan), error).exponent)


def test_a_quench_turns_critical_where_its_own_dynamics_does() -> None:
    """Tree level: the mode k = 0 of u grows where (1 + 1/R)|Omega| > sigma^2; for R = 1 the drift of Eq. 58 says so."""
    rates = np.array([0.5, 1.0, 4.0, 1e9])
    for rate, level in zip(rates, critical_level(5.0, rates), strict=True):
        assert (1 + 1 / rate) * 25 / level**2 == pytest.approx(1)
    drift = VE().eigenvalue(torch.tensor(25 / 50), math.sqrt(50), "sde")
    # dx = 2 (D - x) dl, and the unit of the noise falls at rate 1: 2 (G - 1) + 1 = 0
    assert critical_level(5.0, np.array(1.0)) == pytest.approx(math.sqrt(50))
    assert float(drift) * math.sqrt(50) == pytest.approx(1)
