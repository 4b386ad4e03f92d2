import math

import mpmath
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

from helpers.errors import refused
from helpers.models import processes
from softmode.beta import Constant, Cosine, Custom, Linear
from softmode.exact.empirical import TwoPrototypes
from softmode.formulas.bifurcation import (
    branch_amplitude,
    critical_time,
    curie_weiss,
    drift_critical_time,
    equilibria,
    fit_exponent,
    hessian_spectrum,
    reduced_equation,
)
from softmode.process import VE, VP, Process

MU = torch.tensor([[0.7, -1.1, 0.4, 1.9]], dtype=torch.float64)
NORM = float(MU.square().sum())


def coefficient(process: Process, t: float, x: torch.Tensor, convention: str = "score") -> float:
    """Component of the exact drift along mu, by the denoiser."""
    drift = process.evaluate(TwoPrototypes(MU), x[None], t, convention)
    return float((drift[0] * MU).sum()) / NORM


@processes
def test_hessian_spectrum_is_that_of_the_log_density(process):
    times = process.time(torch.tensor([0.8, 2.0, 5.0], dtype=torch.float64))
    spectrum = hessian_spectrum(process, times, NORM, 4)
    for t, expected in zip(times, spectrum, strict=True):
        alpha = process.alpha(t)

        def log_density(x, alpha=alpha, t=t):
            return TwoPrototypes(MU).log_density(x.reshape(1, 1, 4) / alpha, process.noise_level(t)).sum()

        # autograd drops the curvature of |x| exactly at 0, so stand beside it
        hessian = torch.autograd.functional.hessian(log_density, 1e-9 * torch.ones(4, dtype=torch.float64))
        torch.testing.assert_close(torch.linalg.eigvalsh(hessian), expected, rtol=1e-10, atol=1e-12)


def test_hessian_spectrum_of_one_coordinate_has_the_unstable_mode_only():
    process = VE()
    assert hessian_spectrum(process, 2.0, 1.0, 1).tolist() == [-1 / 4 + 1 / 16]


@processes
@pytest.mark.parametrize(("convention", "norm_squared"), [("score", 25.0), ("sde", 25.0), ("sde", 0.3), ("ode", 0.3)])
def test_critical_times_are_the_zeros_of_the_exact_drift(process, convention, norm_squared):
    mu = math.sqrt(norm_squared / 4) * torch.ones(1, 4, dtype=torch.float64)
    step = 1e-7 * mu

    def slope(log_level: float) -> float:
        t = process.time(math.exp(log_level))
        drift = process.evaluate(TwoPrototypes(mu), step[None], t, convention)
        return float(drift[0, 0, 0] / step[0, 0])

    found = float(process.time(math.exp(brentq(slope, math.log(0.3), math.log(11.0), xtol=1e-14, rtol=1e-14))))
    assert drift_critical_time(process, norm_squared, convention) == pytest.approx(found, rel=1e-11)


@processes
def test_critical_time_is_where_the_noise_level_equals_the_norm(process):
    assert float(process.noise_level(critical_time(process, 25.0))) == pytest.approx(5.0, rel=1e-12)


def test_published_values_of_data_at_plus_and_minus_one():
    assert float(VP().alpha(critical_time(VP(), 1.0))) ** 2 == pytest.approx(0.5, rel=1e-13)
    alpha = float(VP(Cosine()).alpha(drift_critical_time(VP(Cosine()), 1.0)))
    assert alpha == pytest.approx(math.sqrt(math.sqrt(2) - 1), rel=1e-13)
    assert round(alpha, 4) == 0.6436


@pytest.mark.parametrize("norm_squared", [1.0, 1.5, 25.0])
def test_the_vp_flow_never_stabilises_a_mode_of_variance_one_or_more(norm_squared):
    process = VP()
    assert math.isnan(drift_critical_time(process, norm_squared, "ode"))
    levels = torch.logspace(-2, 3, 50, dtype=torch.float64)
    assert bool((process.eigenvalue(norm_squared / levels.square(), process.time(levels), "ode") < 0).all())


def test_a_custom_schedule_that_ends_too_early_has_no_critical_time():
    process = VP(Custom(lambda t: 1.0, t_end=1.0))
    assert math.isnan(critical_time(process, 25.0))
    assert math.isnan(drift_critical_time(process, 25.0))


@pytest.mark.parametrize("argument", [1e-12, 1e-8, 1e-4, 0.1, 0.5, 1.0, 3.0, 4.5, 7.0, 10.0, 20.0, 1000.0])
def test_curie_weiss_inverts_z_coth_z(argument):
    with mpmath.workdps(60):
        z = mpmath.mpf(argument)
        excess, y = float(z * mpmath.coth(z) - 1), float(mpmath.tanh(z))
    assert float(curie_weiss(torch.tensor(excess, dtype=torch.float64))) == pytest.approx(y, rel=2e-15)


def test_curie_weiss_is_zero_without_order_and_keeps_nan():
    y = curie_weiss(torch.tensor([-math.inf, -1.0, 0.0, math.inf, math.nan], dtype=torch.float64))
    assert y.tolist()[:4] == [0.0, 0.0, 0.0, 1.0]
    assert math.isnan(float(y[4]))


@processes
def test_equilibria_are_stationary_points_of_the_exact_score(process):
    t_c = critical_time(process, NORM)
    times = t_c * (1 - torch.logspace(-11, -0.3, 12, dtype=torch.float64))
    for t, (low, middle, high) in zip(times.tolist(), equilibria(process, times, NORM).tolist(), strict=True):
        assert low == -high
        assert math.isnan(middle)
        force = coefficient(process, t, high * MU) * float(process.sigma(t)) ** 2
        assert abs(force) < 1e-13
        assert 0 < high < float(process.alpha(t))
        # a wrong root of tanh would be unstable
        assert coefficient(process, t, 1.5 * high * MU) < 0 < coefficient(process, t, 0.5 * high * MU)


@processes
def test_only_the_symmetric_state_is_stable_above_the_critical_time(process):
    for t in (critical_time(process, NORM) * 1.01, float(process.time(20.0))):
        low, middle, high = equilibria(process, t, NORM).tolist()
        assert middle == 0
        assert math.isnan(low)
        assert math.isnan(high)
        assert coefficient(process, t, 1e-3 * MU) < 0


@pytest.mark.parametrize("process", [VP(Constant(0.7)), VP(Linear()), VE()])
@pytest.mark.parametrize("convention", ["score", "sde", "ode"])
def test_the_reduced_equation_departs_from_the_exact_drift_at_fifth_order(process, convention):
    levels = torch.linspace(1.3, 0.8, 6, dtype=torch.float64) * math.sqrt(NORM)
    times = process.time(levels)

    def exact(t: float, m: list[float]) -> list[float]:
        sign = -(float(process.diffusion(t)) ** 2) if convention == "score" else 1.0
        return [sign * coefficient(process, t, m[0] * MU, convention)]

    errors = []
    for m0 in (0.02, 0.04):
        solution = solve_ivp(exact, (times[0], times[-1]), [m0], method="DOP853", rtol=1e-11, atol=1e-15)
        reduced = reduced_equation(process, times, m0, NORM, convention)
        assert float(reduced[0]) == pytest.approx(m0, rel=1e-13)
        errors.append(solution.y[0, -1] - float(reduced[-1]))
    assert 0 < errors[0] < 1e-5
    assert errors[1] / errors[0] == pytest.approx(32, rel=0.1)


def test_the_reduced_equation_is_the_paper_s_equation_4():
    # Bernoulli: 1/m^2 solves a linear equation, which two quadratures integrate
    process, q, m0, start, end = VP(), 2.0, 0.1, 3.0, 0.5

    def alpha2(t: float) -> float:
        return math.exp(-t)

    def r(t: float) -> float:
        return 1 / (1 - alpha2(t)) - alpha2(t) * q / (1 - alpha2(t)) ** 2

    def u(t: float) -> float:
        return alpha2(t) ** 2 * q**3 / (3 * (1 - alpha2(t)) ** 4)

    def growth(t: float) -> float:
        return math.exp(2 * quad(r, t, start, epsrel=1e-12)[0])

    inverse = growth(end) * (m0**-2 + quad(lambda t: 2 * u(t) / growth(t), end, start, epsrel=1e-12)[0])
    m = reduced_equation(process, torch.tensor([start, 1.0, end], dtype=torch.float64), m0, q)
    assert float(m[-1]) == pytest.approx(inverse**-0.5, rel=1e-8)


def test_the_reduced_equation_keeps_the_symmetric_state_and_the_sign():
    times = torch.linspace(5.0, 1.0, 5, dtype=torch.float64)
    assert reduced_equation(VP(), times, 0.0, NORM).tolist() == [0.0] * 5
    torch.testing.assert_close(reduced_equation(VP(), times, -0.1, NORM), -reduced_equation(VP(), times, 0.1, NORM))


@processes
def test_the_exponent_converges_to_one_half(process):
    window = torch.logspace(-1.5, 0, 12, dtype=torch.float64)
    fits = [fit_exponent(process, NORM, size * window) for size in (1e-2, 1e-3, 1e-4)]
    errors = [abs(fit.slope - 0.5) for fit in fits]
    assert errors[2] < 1e-4
    assert fits[2].stderr < 1e-5
    # the correction to scaling is linear in the distance
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.15)


@processes
def test_the_branch_starts_with_its_exact_amplitude(process):
    t_c, amplitude = critical_time(process, NORM), branch_amplitude(process, NORM)
    deviations = []
    for distance in (1e-4, 1e-5):
        m = float(equilibria(process, t_c * (1 - distance), NORM)[2])
        deviations.append(abs(m / (amplitude * math.sqrt(distance)) - 1))
    assert deviations[1] < 1e-4
    assert deviations[0] / deviations[1] == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize(
    "call",
    [
        lambda q: hessian_spectrum(VP(), 1.0, q, 3),
        lambda q: critical_time(VP(), q),
        lambda q: drift_critical_time(VE(), q),
        lambda q: equilibria(VP(), 1.0, q),
        lambda q: reduced_equation(VP(), torch.tensor([2.0, 1.0]), 0.1, q),
        lambda q: branch_amplitude(VP(), q),
    ],
)
def test_a_norm_that_is_not_positive_is_refused(call, bad):
    with refused("norm_squared: got"):
        call(bad)


@pytest.mark.parametrize("times", [[1.0, 2.0], [1.0], [1.0, 1.0], [1.0, 0.0], [math.nan, 1.0]])
def test_times_that_do_not_fall_are_refused(times):
    with refused("times: got"):
        reduced_equation(VP(), torch.tensor(times, dtype=torch.float64), 0.1, 1.0)


@pytest.mark.parametrize("distances", [[0.1, 0.2], [0.0, 0.1, 0.2], [0.1, 0.2, 1.0]])
def test_distances_outside_the_window_are_refused(distances):
    with refused("distances: got"):
        fit_exponent(VP(), 1.0, torch.tensor(distances, dtype=torch.float64))


def test_a_state_without_coordinates_is_refused():
    with refused("n: got 0"):
        hessian_spectrum(VP(), 1.0, 1.0, 0)


def test_a_process_of_unknown_drift_is_refused():
    class Other(VE.__base__):
        alpha = sigma = time = drift = diffusion = None

    with refused("process: got Other"):
        critical_time(Other(), 1.0)
