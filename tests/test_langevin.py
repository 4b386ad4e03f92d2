"""The frozen score's Langevin dynamics where its law is known."""

import math
from collections.abc import Callable
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.interpolate import CubicSpline
from torch import Tensor

from helpers.errors import refused
from helpers.models import ornstein_zernike
from helpers.random import normal
from softmode.beta import Linear
from softmode.denoiser import Denoiser
from softmode.exact.empirical import TwoPrototypes
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.mixture import GaussianMixture
from softmode.exact.patch import TwoStatePatch
from softmode.langevin import (
    LANGEVIN,
    Frozen,
    FrozenStep,
    KnownDensity,
    exponential_euler,
    frozen,
    frozen_langevin,
    frozen_reverse_sde,
    leimkuhler_matthews,
    metropolis_langevin,
)
from softmode.lattice import ReceptiveField
from softmode.process import VE, VP, Process
from softmode.streams import TrajectoryNoise

ONE_SITE = TwoStatePatch(ReceptiveField.box(1, 1))


class Joint(TrajectoryNoise):
    """One stream for many chains, which is quick."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed, [0])

    def fill_(self, out: Tensor) -> Tensor:
        return out.normal_(generator=self._generators[0])


def run(denoiser: Denoiser, sigma: float, step: float, steps: int, start: torch.Tensor) -> list[torch.Tensor]:
    noise = TrajectoryNoise(0, range(len(start)))
    return [x for x, _ in islice(frozen_langevin(denoiser, start, sigma, step, noise), steps + 1)]


@pytest.mark.parametrize("step", [0.1, 1.0])
def test_around_a_constant_the_variance_is_exact_at_any_step(step: float) -> None:
    """D = 3: from 0 the mean is 3 (1 - e^-t), the variance sigma^2 (1 - e^-2t), within 4 standard errors."""
    start, count = torch.zeros(4, 1, 100, 100, dtype=torch.float64), 40_000
    states = run(lambda x, sigma: torch.full_like(x, 3.0), 2.0, step, 5, start)
    for n, x in enumerate(states):
        variance = 4 * (1 - math.exp(-2 * n * step))
        assert abs(float(x.mean()) - 3 * (1 - math.exp(-n * step))) <= 4 * math.sqrt(variance / count)
        assert abs(float(x.var()) - variance) <= 4 * variance * math.sqrt(2 / count)
    assert torch.equal(start, torch.zeros_like(start))


def test_a_gaussian_s_modes_reach_their_equilibrium_and_forget_at_their_rate() -> None:
    """Of variance S + sigma^2 with C(t) = e^(-(1 - G) t), to first order in the step."""
    sigma, step = 1.5, 0.05
    denoiser = GaussianDenoiser(torch.full((32, 32), 4.0, dtype=torch.float64))
    gain, variance = 4 / (4 + sigma**2), 4 + sigma**2
    states = run(denoiser, sigma, step, 600, math.sqrt(variance) * normal(8, 1, 32, 32, seed=9))
    first, last = states[300], states[600]
    error = math.sqrt(2 / first.numel())
    assert abs(float(last.var()) / variance - 1) < 4 * error + step
    lag = 20
    kept = float((states[300] * states[300 + lag]).mean() / states[300].square().mean())
    assert kept == pytest.approx(math.exp(-(1 - gain) * lag * step), abs=4 * error + step / 2)


def one_site_moment(sigma: float, power: int) -> float:
    """Return E x^power of p(x) ~ exp(-x^2/2 sigma^2) cosh(x/sigma^2), by quadrature."""

    def weight(x: float) -> float:
        return sum(math.exp(-((x - y) ** 2) / (2 * sigma**2)) for y in (-1, 1))

    moment, total = (quad(lambda x, p=p: x**p * weight(x), -12, 12, epsabs=1e-13)[0] for p in (power, 0))
    return float(moment / total)


def test_a_site_has_the_moments_of_its_known_density() -> None:
    """Within 4 standard errors over independent sites, at a step that is short enough for the second-order scheme."""
    sigma, h = 0.8, 0.1
    x = normal(4, 1, 10_000, seed=3) * sigma + normal(4, 1, 10_000, seed=4).sign()
    states = islice(frozen(ONE_SITE, x, sigma, leimkuhler_matthews(h), Joint(5)), 100, 500, 8)
    seen = torch.stack([y.flatten() for y, _ in states])
    for power in (1, 2, 4):
        sites = (seen**power).mean(0)
        error = float(sites.std()) / math.sqrt(len(sites))
        assert abs(float(sites.mean()) - one_site_moment(sigma, power)) < 4 * error


class Nodes(TrajectoryNoise):
    """The nodes of a Gauss-Hermite rule in place of random numbers."""

    def __init__(self, nodes: Tensor) -> None:
        super().__init__(0, [0])
        self.nodes = nodes

    def fill_(self, out: Tensor) -> Tensor:
        return out.copy_(self.nodes.expand(out.numel() // len(self.nodes), -1).reshape(out.shape))


def stationary_moment(step: FrozenStep, sigma: float, power: int = 2) -> float:
    """Return the moment of a site that a scheme settles in, by quadrature over the noise of each step."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights, grid = weights / weights.sum(), np.linspace(-8, 8, 641)
    x = torch.from_numpy(np.repeat(grid, len(nodes))).reshape(1, 1, -1)
    noise = Nodes(torch.from_numpy(nodes))
    (first, _), (second, _) = islice(frozen(ONE_SITE, x, sigma, step, noise), 2)
    after = second - step.before * sigma * noise.fill_(torch.empty_like(x))
    shape = len(grid), len(nodes)
    values, places = (first.numpy().reshape(shape) ** power) @ weights, np.clip(after.numpy().reshape(shape), -8, 8)
    for _ in range(400):
        values = CubicSpline(grid, values)(places) @ weights
    assert np.ptp(values[160:-160]) < 1e-6, "all starts end alike"
    return float(values[320])


@pytest.mark.parametrize(("scheme", "order"), [(exponential_euler, 1), (leimkuhler_matthews, 2)])
def test_schemes_converge_at_their_order(scheme: Callable[[float], FrozenStep], order: int) -> None:
    """Halving the step divides the error of a site's second moment by 2 and by 4."""
    sigma = 0.8
    errors = [stationary_moment(scheme(h), sigma) - one_site_moment(sigma, 2) for h in (0.2, 0.1, 0.05)]
    assert abs(errors[0]) > 1e-4
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("step", [0.3, 1.2])
def test_a_gaussian_s_variance_is_exact_at_any_step_of_the_second_order_scheme(step: float) -> None:
    """S_k + sigma^2 of every wave, within 4 standard errors, where the exponential scheme is off by more than 10."""
    sigma, spectrum = 1.5, ornstein_zernike(8, 8)
    denoiser, truth = GaussianDenoiser(spectrum), spectrum + 1.5**2
    x = math.sqrt(float(truth.mean())) * normal(4000, 1, 8, 8, seed=2)

    def z_scores(scheme: FrozenStep) -> Tensor:
        along = frozen(denoiser, x, sigma, scheme, Joint())
        last = next(islice(along, 60, None))[0]
        power = torch.fft.fftn(last, dim=(2, 3), norm="ortho").abs().square()
        # a real wave has one degree of freedom, a complex one two
        error = truth * math.sqrt(2 / len(x))
        return ((power.mean((0, 1)) - truth) / error).abs()

    # relaxed: the slowest wave forgets its start at (1 - G) a unit of time, 60 steps take 18 or more
    assert float(z_scores(leimkuhler_matthews(step)).max()) < 4.5
    assert float(z_scores(exponential_euler(step)).max()) > 10 * (step > 1)


@pytest.mark.parametrize("process", [VP(), VP(Linear()), VE()])
def test_the_frozen_reverse_sde_is_the_process_s_own_step(process: Process) -> None:
    """One short Euler-Maruyama step at fixed time in the process's coordinates, moments of a linear denoiser."""
    sigma, gain = 1.7, 0.4
    t = process.time(sigma)
    dynamics = frozen_reverse_sde(process, sigma)
    a, c = (float(each) for each in process.drift(t, "sde"))
    alpha, g = float(process.alpha(t)), float(process.diffusion(t))
    # the stationary variance of dx = -(a + c gain / alpha) x ds + g dW, in EDM coordinates
    expected = g**2 / (2 * (a + c * gain / alpha)) / alpha**2
    assert dynamics.temperature == pytest.approx(0.5)
    assert dynamics.stiffness == pytest.approx(1 - (sigma**2 / (1 + sigma**2) / 2 if process.__class__ is VP else 0))
    assert dynamics.temperature * sigma**2 / (dynamics.stiffness - gain) == pytest.approx(expected)
    x = normal(2, 1, 100, 100) * math.sqrt(expected)
    last, _ = next(
        islice(frozen(lambda x, _: gain * x, x, sigma, leimkuhler_matthews(0.2, dynamics), Joint()), 60, None)
    )
    assert float(last.var()) == pytest.approx(expected, rel=4 * math.sqrt(2 / last.numel()))
    half = expected / (LANGEVIN.temperature * sigma**2 / (LANGEVIN.stiffness - gain))
    assert half == pytest.approx(0.5 * (1 - gain) / (dynamics.stiffness - gain))


@pytest.mark.parametrize("h", [2.0, 2.5, 1e300])
def test_an_unstable_step_is_refused_with_one_that_would_do(h: float) -> None:
    """And the one that is suggested is stable."""
    with refused(r"step: got .*; expected above 0 and below 2.*: use 0.5"):
        leimkuhler_matthews(h)
    softer = Frozen(stiffness=0.6, temperature=0.5)
    assert leimkuhler_matthews(2.5, softer).keep == pytest.approx(1 - 1.5)
    states = frozen(lambda x, _: torch.zeros_like(x), torch.ones(1, 1, 4), 1.0, FrozenStep(0, 1 - 2.1, 0, 0), Joint())
    assert float(next(islice(states, 200, None))[0].abs().max()) > 1e6


DENSITIES: dict[str, KnownDensity] = {
    "one site": TwoPrototypes(torch.ones(1, 1, dtype=torch.float64)),
    "gaussian": GaussianDenoiser(ornstein_zernike(4, 4), mean=0.3),
    "mixture": GaussianMixture(normal(3, 1, 5), 0.4, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)).denoiser(),
    "class": GaussianMixture(normal(3, 1, 5), 0.4).denoiser(1),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_a_score_is_the_gradient_of_its_density(name: str) -> None:
    """By automatic differentiation, at a noise level of each state."""
    denoiser = DENSITIES[name]
    shape = {"one site": (1, 1), "gaussian": (1, 4, 4)}.get(name, (1, 5))
    x, sigma = normal(3, *shape, seed=8).requires_grad_(), torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad(denoiser.log_density(x, sigma).sum(), x)
    expected = (denoiser(x, sigma) - x) / sigma.reshape(-1, *[1] * len(shape)).square()
    torch.testing.assert_close(slope, expected.detach(), rtol=1e-9, atol=1e-12)


def test_metropolis_takes_away_the_error_of_the_step() -> None:
    """A step at which the plain scheme is off by 20 standard errors leaves the corrected moments within 4."""
    sigma, h = 0.8, 0.6
    denoiser = TwoPrototypes(torch.ones(1, 1, dtype=torch.float64))
    x = normal(40_000, 1, 1, seed=1) * sigma + normal(40_000, 1, 1, seed=2).sign()
    states, taken = zip(*islice(metropolis_langevin(denoiser, x, sigma, h, Joint(3)), 20, 81, 4), strict=True)
    euler = FrozenStep(0.0, 1 - h, h, math.sqrt(2 * h))
    plain = [y for y, _ in islice(frozen(denoiser, x, sigma, euler, Joint(3)), 20, 81, 4)]
    for power in (2, 4):
        truth = one_site_moment(sigma, power)
        chains = torch.stack([y.flatten() ** power for y in states]).mean(0)
        error = float(chains.std()) / math.sqrt(len(chains))
        assert abs(float(chains.mean()) - truth) < 4 * error
        assert abs(float((torch.stack(plain) ** power).mean()) - truth) > 20 * error
    share = float(torch.stack(taken[1:]).double().mean())
    assert 0.5 < share < 0.99


def test_metropolis_keeps_a_gaussian_field_exactly() -> None:
    """Every wave's variance S_k + sigma^2 within 4.5 standard errors, from a start at equilibrium."""
    spectrum, sigma = ornstein_zernike(4, 4), 1.2
    denoiser, truth = GaussianDenoiser(spectrum), spectrum + 1.44
    waves = torch.fft.fftn(normal(20_000, 1, 4, 4, seed=1), dim=(2, 3))
    x = torch.fft.ifftn(truth.sqrt() * waves, dim=(2, 3)).real
    last, taken = next(islice(metropolis_langevin(denoiser, x, sigma, 0.3, Joint(2)), 30, None))
    power = torch.fft.fftn(last, dim=(2, 3), norm="ortho").abs().square().mean((0, 1))
    assert float(((power - truth) / (truth * math.sqrt(2 / len(x)))).abs().max()) < 4.5
    assert 0.1 < float(taken.double().mean()) < 1
