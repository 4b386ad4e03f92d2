import math
import re

import pytest
import torch
from scipy.integrate import quad, solve_ivp

from helpers.dense import orders
from helpers.errors import refused
from helpers.models import two_gaussians
from helpers.random import normal
from softmode.denoiser import Guided
from softmode.exact.mixture import GaussianMixture
from softmode.formulas.guided_flow import (
    class_flow,
    critical_level,
    pulse_factor,
    pulse_response,
    susceptibility,
)
from softmode.guidance.weights import Interval
from softmode.process import VE, log_grid
from softmode.samplers import Heun
from softmode.simulation import simulate

HEUN = Heun()

# means +mu and -mu in four coordinates, |mu| = 2.5
DIRECTION = torch.tensor([[0.1, -0.5, 0.7, 0.5]], dtype=torch.float64)
M, SPREAD, SIGMA_MAX = 2.5, 0.4, 20.0
MU = M * DIRECTION
TWO_CLASSES = two_gaussians(MU, SPREAD)


def final_states(denoiser, x, levels):
    return simulate(denoiser, VE(), x, levels, sampler=HEUN).state


def integrate(denoiser, x, sigma_from, sigma_to):
    """Carry states down the flow (x - D) / sigma by an adaptive method of high order."""

    def slope(sigma, flat):
        state = torch.from_numpy(flat).reshape(x.shape)
        return ((state - denoiser(state, float(sigma))) / sigma).flatten().numpy()

    solution = solve_ivp(
        slope, (sigma_from, sigma_to), x.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-12, t_eval=[sigma_to]
    )
    return torch.from_numpy(solution.y[:, -1].copy()).reshape(x.shape)


def pulsed(x, pulse):
    """Carry class + from sigma_max to 0 with one pulse of guidance: integrated inside, in closed form outside."""
    guided = Guided(TWO_CLASSES.denoiser(0), TWO_CLASSES.denoiser(), lambda sigma: torch.full_like(sigma, pulse.weight))
    state = class_flow(x, MU, SPREAD, SIGMA_MAX, pulse.high)
    state = integrate(guided, state, pulse.high, pulse.low)
    return class_flow(state, MU, SPREAD, pulse.low, 0.0)


def log_odds(x):
    log_posterior = TWO_CLASSES.log_posterior(x, 0.0)
    return log_posterior[:, 0] - log_posterior[:, 1]


def project(x):
    return (x * DIRECTION).flatten(1).sum(1)


def test_class_flow_is_the_integrated_flow():
    """The closed form is the adaptive integral of the class's flow, down and back up again."""
    x = SIGMA_MAX * normal(3, 1, 4)
    expected = integrate(TWO_CLASSES.denoiser(0), x, SIGMA_MAX, 0.1)
    found = class_flow(x, MU, SPREAD, SIGMA_MAX, 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(class_flow(found, MU, SPREAD, 0.1, SIGMA_MAX), x, rtol=1e-12, atol=1e-12)


def test_class_flow_carries_noise_to_the_class():
    """States of variance s^2 + sigma^2 about the mean arrive at sigma = 0 with variance s^2, and keep their type."""
    noise = normal(3, 1, 4)
    found = class_flow(MU + math.hypot(SPREAD, 7.0) * noise, MU, SPREAD, 7.0, 0.0)
    torch.testing.assert_close(found, MU + SPREAD * noise, rtol=1e-13, atol=1e-13)
    assert class_flow(noise.float(), MU, SPREAD, 7.0, 0.0).dtype == torch.float32


@pytest.mark.parametrize("guide_spread", [1.1, 0.15], ids=["broader", "narrower"])
def test_smooth_pulses_of_autoguidance_converge_at_second_order(guide_spread):
    """Heun's error against exp(integral of w (g - g_g) / sigma) falls by 4 when the steps are halved."""
    main, guide = (GaussianMixture(MU[None], s).denoiser(0) for s in (SPREAD, guide_spread))

    def weight(sigma):
        return 3 * torch.exp(-0.5 * ((sigma / 0.6).log() / 0.4).square())

    def exponent(log_sigma):
        sigma = math.exp(log_sigma)
        gain, guide_gain = (s**2 / (s**2 + sigma**2) for s in (SPREAD, guide_spread))
        return float(weight(torch.tensor(sigma, dtype=torch.float64))) * (gain - guide_gain)

    factor = math.exp(quad(exponent, math.log(0.05), math.log(5), epsabs=0, epsrel=1e-12, points=[math.log(0.6)])[0])
    assert abs(factor - 1) > 0.5
    x = 5 * normal(2, 1, 4)
    expected = MU + factor * (class_flow(x, MU, SPREAD, 5.0, 0.05) - MU)
    errors = [
        float((final_states(Guided(main, guide, weight), x, log_grid(5.0, 0.05, steps)) - expected).abs().max())
        for steps in (80, 160, 320)
    ]
    assert all(1.9 < order < 2.1 for order in orders(errors)), errors
    assert errors[-1] < 1e-3


def sharp_pulse(steps):
    """A pulse on the third and fourth fifth of a logarithmic grid, and the grid."""
    levels = log_grid(5.0, 0.05, 5 * steps)
    return levels, Interval(float(levels[4 * steps]), float(levels[2 * steps]), 2.0)


@pytest.mark.parametrize("guide_spread", [1.1, 0.15], ids=["broader", "narrower"])
def test_sharp_pulses_of_autoguidance_converge_at_first_order(guide_spread):
    """A pulse that ends on grid levels has the closed-form factor, which Heun meets to first order only."""
    main, guide = (GaussianMixture(MU[None], s).denoiser(0) for s in (SPREAD, guide_spread))
    x, errors = 5 * normal(2, 1, 4), []
    for steps in (32, 64, 128):
        levels, pulse = sharp_pulse(steps)
        factor = pulse_factor(pulse, SPREAD, guide_spread)
        assert abs(factor - 1) > 0.4
        expected = MU + factor * (class_flow(x, MU, SPREAD, 5.0, 0.05) - MU)
        found = final_states(Guided(main, guide, pulse), x, levels)
        errors.append(float((found - expected).abs().max()))
    assert all(0.9 < order < 1.1 for order in orders(errors)), errors
    assert errors[-1] < 0.05


def test_heun_takes_a_sharp_pulse_half_a_step_early():
    """A pulse moved up by half a step is met to second order: Heun averages w over the two ends of a step."""
    main, guide = (GaussianMixture(MU[None], s).denoiser(0) for s in (SPREAD, 1.1))
    x, errors = 5 * normal(2, 1, 4), []
    for steps in (32, 64, 128):
        levels, pulse = sharp_pulse(steps)
        low, high = (float(levels[k - 1 : k + 1].mean()) for k in (4 * steps, 2 * steps))
        factor = pulse_factor(Interval(low, high, pulse.weight), SPREAD, 1.1)
        expected = MU + factor * (class_flow(x, MU, SPREAD, 5.0, 0.05) - MU)
        errors.append(float((final_states(Guided(main, guide, pulse), x, levels) - expected).abs().max()))
    assert all(1.9 < order < 2.1 for order in orders(errors)), errors


def test_pulse_factors_multiply_and_have_their_limits():
    """Two adjacent pulses are one; over all levels the factor is (s / s_g)^w; without weight or difference it is 1."""
    both = pulse_factor(Interval(0.2, 3.0, 1.5), 0.4, 1.1)
    parts = pulse_factor(Interval(0.2, 0.9, 1.5), 0.4, 1.1) * pulse_factor(Interval(0.9, 3.0, 1.5), 0.4, 1.1)
    assert both == pytest.approx(parts, rel=1e-13)
    assert pulse_factor(Interval(0.0, math.inf, 1.5), 0.4, 1.1) == pytest.approx((0.4 / 1.1) ** 1.5, rel=1e-13)
    assert pulse_factor(Interval(0.2, 3.0, 0.0), 0.4, 1.1) == 1
    assert pulse_factor(Interval(0.2, 3.0, 1.5), 0.4, 0.4) == 1


PULSES = [(2.0, 6.0), (0.8, 2.5), (0.3, 0.9)]
pulses = pytest.mark.parametrize(("low", "high"), PULSES, ids=["above", "critical", "below"])


@pulses
def test_pulse_response_is_the_derivative_of_the_integrated_flow(low, high):
    """Central differences in w of the projection and of the log-odds at sigma = 0, per trajectory, on either side."""
    x = SIGMA_MAX * normal(6, 1, 4) - 1.5 * SIGMA_MAX * torch.linspace(0, 1, 6)[:, None, None] * DIRECTION
    found = pulse_response(Interval(low, high, 1.0), project(x), M, SPREAD, SIGMA_MAX)
    up, down = (pulsed(x, Interval(low, high, sign * 1e-3)) for sign in (1, -1))
    atol = 1e-5 * float(found.log_odds.max())
    torch.testing.assert_close(found.log_odds, (log_odds(up) - log_odds(down)) / 2e-3, rtol=1e-5, atol=atol)
    atol = 1e-5 * float(found.projection.max())
    torch.testing.assert_close(found.projection, (project(up) - project(down)) / 2e-3, rtol=1e-5, atol=atol)


@pulses
def test_finite_pulses_approach_the_linear_response_at_first_order(low, high):
    """The ratio of the finite response to the linear one departs from 1 in proportion to w."""
    x = -2.5 * SIGMA_MAX * DIRECTION[None]  # a start far on the other side is late to decide
    unguided = log_odds(class_flow(x, MU, SPREAD, SIGMA_MAX, 0.0))
    departures = []
    for weight in (0.04, 0.02, 0.01):
        pulse = Interval(low, high, weight)
        linear = pulse_response(pulse, project(x), M, SPREAD, SIGMA_MAX).log_odds
        departures.append(abs(float((log_odds(pulsed(x, pulse)) - unguided) / linear) - 1))
    assert all(0.9 < order < 1.1 for order in orders(departures)), departures
    assert departures[-1] < 0.02


def test_response_at_a_positive_noise_level_is_read_there():
    """At sigma_end the projection is that of sigma = 0 carried back up; the log-odds are 2 M p / (s^2 + sigma^2)."""
    pulse, start = Interval(1.0, 3.0, 0.1), SIGMA_MAX * normal(4)
    end, sample = (pulse_response(pulse, start, M, SPREAD, SIGMA_MAX, sigma) for sigma in (0.7, 0.0))
    width = math.hypot(SPREAD, 0.7)
    torch.testing.assert_close(end.projection, sample.projection * width / SPREAD, rtol=1e-12, atol=0)
    torch.testing.assert_close(end.log_odds, 2 * M * end.projection / width**2, rtol=1e-12, atol=0)


def test_pulse_response_finds_narrow_classes():
    """At s = 1e-6, where y spans seven decades, the integral of 1 - tanh(y^2) over all y is found (zeta = 0)."""
    pulse, spread = Interval(0.0, 1e3, 1.0), 1e-6
    found = pulse_response(pulse, torch.tensor([1.0], dtype=torch.float64), 1.0, spread, 1e3).projection / spread
    expected = quad(lambda y: 1 - math.tanh(y**2), 1e-3, 6, epsabs=0, epsrel=1e-12)[0]
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("centre", [6.0, 2.5, 1.5])
def test_susceptibility_is_the_mean_over_initial_noise(centre):
    """The integrated flow's mean response over 4000 states, known to 4 %, is chi d ln sigma within 4 stderr."""
    x, weight, half = SIGMA_MAX * normal(4000, 1, 4), 1e-3, 0.05
    low, high = centre * math.exp(-half), centre * math.exp(half)
    up, down = (log_odds(pulsed(x, Interval(low, high, sign * weight))) for sign in (1, -1))
    response = (up - down) / (2 * weight)
    levels = centre * torch.linspace(-half, half, 21, dtype=torch.float64).exp()
    chi = susceptibility(levels, M, SPREAD, SIGMA_MAX)
    expected = float(torch.trapezoid(chi, levels.log()))
    stderr = float(response.std() / math.sqrt(len(response)))
    assert stderr < 0.04 * expected
    assert abs(float(response.mean()) - expected) < 4 * stderr


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5, 8.0, SIGMA_MAX])
def test_susceptibility_is_the_printed_average(sigma):
    """Chi is its docstring's formula, integrated over the initial projection as printed, to 1e-9."""
    variance, end = SPREAD**2 + sigma**2, 0.3

    def integrand(z):
        p = M + (SIGMA_MAX * z - M) * math.sqrt(variance / (SPREAD**2 + SIGMA_MAX**2))
        return math.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) * 2 / (1 + math.exp(2 * M * p / variance))

    average = quad(integrand, -12, 12, epsabs=0, epsrel=1e-11, points=[-M / sigma], limit=200)[0]
    expected = 2 * M**2 * sigma**2 / math.sqrt(SPREAD**2 + end**2) / variance**1.5 * average
    found = susceptibility(torch.tensor([[sigma]], dtype=torch.float64), M, SPREAD, SIGMA_MAX, end)
    assert found.shape == (1, 1)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_susceptibility_vanishes_at_both_ends():
    """It is 2 M^2 / (s sigma) far above the means, and underflows to 0, not to NaN, far below them."""
    high = susceptibility(torch.tensor([1e4], dtype=torch.float64), M, SPREAD, 1e8)
    assert float(high) == pytest.approx(2 * M**2 / (SPREAD * 1e4), rel=1e-6)
    low = susceptibility(torch.tensor([0.0, 0.01, 0.1], dtype=torch.float64), 300.0, 0.01, 1e4)
    assert low.tolist() == [0, 0, 0]


@pytest.mark.parametrize("mean_norm", [3.0, 30.0])
def test_susceptibility_is_largest_above_the_critical_level(mean_norm):
    """For narrow classes the maximum over ln sigma is at 1.2223 |mu|, where chi(|mu|) is 96.2 % of it."""
    spread, sigma_max = 1e-3 * mean_norm, 1e5 * mean_norm
    ratios = torch.linspace(1.2, 1.25, 251, dtype=torch.float64)
    chi = susceptibility(ratios * mean_norm, mean_norm, spread, sigma_max)
    assert float(ratios[chi.argmax()]) == pytest.approx(1.2223, abs=3e-4)
    level = critical_level(mean_norm, spread)
    at_critical = susceptibility(torch.tensor(level, dtype=torch.float64), mean_norm, spread, sigma_max)
    assert float(at_critical / chi.max()) == pytest.approx(0.962, abs=5e-4)


def test_mixture_loses_stability_at_the_critical_level():
    """At x = 0 the unlabelled denoiser's gain along mu is 1 at the critical level; broad classes have none."""
    zero = torch.zeros(1, 1, 4, dtype=torch.float64)
    level, denoiser = critical_level(M, SPREAD), TWO_CLASSES.denoiser()
    _, response = torch.func.jvp(lambda x: denoiser(x, level), (zero,), (MU[None],))
    torch.testing.assert_close(response, MU[None], rtol=1e-12, atol=1e-12)
    assert math.isnan(critical_level(1.0, 1.0))


START = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_flow(MU[None], MU, 0.0, 1.0, 0.0), "spread: got 0; expected"),
        (lambda: class_flow(MU[None], MU, 1.0, math.inf, 0.0), "sigma_from: got inf; expected"),
        (lambda: class_flow(MU[None], MU, 1.0, 1.0, -1.0), "sigma_to: got -1; expected"),
        (lambda: pulse_factor(Interval(0.0, 1.0), -1.0, 1.0), "spread: got -1; expected"),
        (lambda: pulse_factor(Interval(0.0, 1.0), 1.0, math.nan), "guide_spread: got nan; expected"),
        (lambda: pulse_response(Interval(0.0, 9.0), START, 1.0, 1.0, 8.0), "pulse: got (0, 9]; expected"),
        (lambda: pulse_response(Interval(0.1, 1.0), START, 1.0, 1.0, 8.0, 0.2), "pulse: got (0.1, 1]; expected"),
        (lambda: pulse_response(Interval(0.1, 1.0), START, 0.0, 1.0, 8.0), "mean_norm: got 0; expected"),
        (lambda: susceptibility(START + 9, 1.0, 1.0, 8.0), "sigma: got [9.0]...; expected levels from 0 to 8"),
        (lambda: susceptibility(START + math.nan, 1.0, 1.0, 8.0), "sigma: got [nan]...; expected"),
        (lambda: susceptibility(START, 1.0, 1.0, 8.0, 8.0), "sigma_end: got 8; expected"),
        (lambda: critical_level(1.0, math.inf), "spread: got inf; expected"),
    ],
)
def test_bad_input_is_refused(call, message):
    """What makes no flow is refused by name, in one line."""
    with refused(f"^{re.escape(message)}"):
        call()
