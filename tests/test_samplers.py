"""Steps of every sampler: literal formulas, orders of convergence, sampled laws, and grids that are too coarse."""

import itertools
import math
import re
import warnings

import pytest
import torch
from scipy.integrate import solve_ivp

from helpers.dense import orders
from helpers.models import ornstein_zernike, patch_denoiser
from helpers.random import normal
from softmode.beta import Constant, Linear
from softmode.exact.gaussian import GaussianDenoiser, power_spectrum
from softmode.process import VE, VP, log_grid, rho_grid
from softmode.samplers import CoarseStepWarning, EulerMaruyama, Heun, initial_state
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise

EULER = EulerMaruyama()
HEUN = Heun()

SAMPLERS = {"euler-maruyama": EULER, "heun": HEUN}


class Impulses(TrajectoryNoise):
    """No noise, except for a unit impulse at the origin that trajectory j receives in step j."""

    def __init__(self, trajectories):
        super().__init__(0, range(trajectories))
        self.step = 0

    def fill_(self, out):
        out.zero_()
        out[self.step].view(-1)[0] = 1
        self.step += 1
        return out


def sampled_variance(sampler, process, spectrum, times):
    """Return the exact variance per mode of the Gaussian model's samples: a sum of squared impulse responses.

    A linear scheme maps each Fourier mode to itself; a unit impulse in a step contributes to every mode the variance
    that unit white noise in that step does. The last trajectory carries the initial state's.
    """
    kicks = len(times) - 1 if sampler is EULER else 0
    x = torch.zeros(kicks + 1, 1, *spectrum.shape, dtype=torch.float64)
    x[-1].view(-1)[0] = process.sigma(times[0])
    final = simulate(GaussianDenoiser(spectrum), process, x, times, Impulses(kicks + 1), sampler=sampler).state
    return torch.fft.fftn(final[:, 0], dim=tuple(range(1, 1 + spectrum.ndim))).abs().square().sum(0)


def marginal(process, spectrum, t):
    return process.alpha(t) ** 2 * spectrum + process.sigma(t) ** 2


def exact_variance(sampler, process, spectrum, times):
    """Return the variance per mode of the exact reverse SDE or ODE of the Gaussian model, started from pure noise.

    The SDE keeps the marginal and forgets a departure from it as the square of its linear response; the ODE rescales.
    """
    T, t = times[0], times[-1]
    start, end = marginal(process, spectrum, T), marginal(process, spectrum, t)
    if sampler is HEUN:
        return process.sigma(T) ** 2 * end / start
    response = end / start * (process.alpha(T) / process.alpha(t))
    return end + (process.sigma(T) ** 2 - start) * response**2


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("process", "t_max", "t_min"), [(VP(), 3.0, 0.05), (VE(), 8.0, 0.2)], ids=["vp", "ve"])
def test_convergence_order(name, process, t_max, t_min):
    """The variance of every mode converges with order 1 (Euler-Maruyama) or 2 (Heun) to the closed form."""
    sampler, order = SAMPLERS[name], {"euler-maruyama": 1, "heun": 2}[name]
    spectrum = ornstein_zernike(8)
    errors = []
    for steps in (40, 80, 160, 320):
        times = log_grid(t_max, t_min, steps)
        exact = exact_variance(sampler, process, spectrum, times)
        errors.append((sampled_variance(sampler, process, spectrum, times) / exact - 1).abs())
    assert (orders(torch.stack(errors)) - order).abs().max() < 0.1
    assert errors[-1].max() < 0.01


def test_exact_variance_solves_its_equation():
    """The closed-form variances used above obey dV/dt = 2 lambda V - g^2 (SDE) and dV/dt = 2 lambda V (ODE)."""
    spectrum = ornstein_zernike(8)
    for process, name in itertools.product((VP(), VE()), SAMPLERS):
        sampler, convention = (SAMPLERS[name], {"euler-maruyama": "sde", "heun": "ode"}[name])
        t = torch.tensor(0.6, dtype=torch.float64)
        T, h = 2.0 * torch.ones_like(t), 1e-5

        def variance(t, process=process, sampler=sampler, T=T):
            return exact_variance(sampler, process, spectrum, torch.stack([T, t]))

        rate = process.eigenvalue(GaussianDenoiser(spectrum).gain(process.noise_level(t)), t, convention)
        noise = process.diffusion(t) ** 2 if convention == "sde" else 0
        derivative = (variance(t + h) - variance(t - h)) / (2 * h)
        torch.testing.assert_close(derivative, 2 * rate * variance(t) - noise, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(variance(T), (process.sigma(T) ** 2).expand(8), rtol=1e-12, atol=0)


def test_sampled_spectrum_is_the_models():
    """Euler-Maruyama samples of the Gaussian model have its spectrum within 4 standard errors, and no mean."""
    spectrum, trajectories, process = ornstein_zernike(24), 600, VP()
    noise, times = TrajectoryNoise(7, range(trajectories)), log_grid(12.0, 1e-3, 300)
    x = initial_state(process, 12.0, noise, (1, 24), torch.float64)
    samples = simulate(GaussianDenoiser(spectrum), process, x, times, noise).state
    ratio = power_spectrum(samples) / spectrum
    freedom = torch.full((24,), 2.0)  # the modes 0 and 12 are real, the others complex
    freedom[[0, 12]] = 1.0
    stderr = (2 / (trajectories * freedom)).sqrt()
    assert stderr.max() < 0.06
    assert ((ratio - 1).abs() < 4 * stderr).all()
    overall = float((freedom * ratio).sum() / freedom.sum())  # every complex mode is listed twice
    assert overall == pytest.approx(1, abs=4 * math.sqrt(2 / (trajectories * 24)))
    deviation = samples.mean((0, 1)) / (spectrum.mean() / trajectories).sqrt()
    assert deviation.abs().max() < 4


def literal_score(dictionary, x_t, t):
    """Return the patch score of one lattice [L, L] by Eqs. 54 to 57, site by site."""
    alpha, variance = math.exp(-t / 2), 1 - math.exp(-t)
    L = x_t.shape[0]
    score = torch.empty_like(x_t)
    for i, j in itertools.product(range(L), range(L)):
        y = torch.stack([x_t[(i + u) % L, (j + v) % L] for u, v in dictionary.receptive_field.offsets])
        w = dictionary.prior * torch.exp(alpha / variance * (dictionary.patterns @ y))
        score[i, j] = (alpha * (w / w.sum()) @ dictionary.centre - x_t[i, j]) / variance
    return score


def test_euler_maruyama_step_is_equation_60():
    """One step of the loop is x + b dt + sqrt|dt| eta with b of Eq. 58 and the score of Eqs. 54 to 57, beta = 1."""
    denoiser, times = patch_denoiser(), torch.tensor([1.2, 1.1], dtype=torch.float64)
    x, noise, same = normal(2, 1, 5, 5), TrajectoryNoise(3, [0, 1]), TrajectoryNoise(3, [0, 1])
    found = simulate(denoiser, VP(), x, times, noise).state
    eta, dt = same.fill_(torch.empty_like(x)), -0.1
    for n in range(2):
        b = -x[n, 0] / 2 - literal_score(denoiser.dictionary, x[n, 0], 1.2)
        torch.testing.assert_close(found[n, 0], x[n, 0] + b * dt + math.sqrt(0.1) * eta[n, 0], rtol=1e-12, atol=1e-12)


def test_euler_maruyama_step_in_other_processes():
    """One step is x + b dt + g sqrt|dt| eta with the process's own drift and diffusion: VP-linear and VE."""
    denoiser = patch_denoiser()
    for process, t, dt in ((VP(Linear()), 0.5, -0.01), (VE(), 2.0, -0.1)):
        x, noise, same = normal(2, 1, 5, 5), TrajectoryNoise(3, [0, 1]), TrajectoryNoise(3, [0, 1])
        found = simulate(denoiser, process, x, torch.tensor([t, t + dt], dtype=torch.float64), noise).state
        kick = float(process.diffusion(t)) * math.sqrt(-dt) * same.fill_(torch.empty_like(x))
        expected = x + dt * process.evaluate(denoiser, x, t, "sde") + kick
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("process", "t_max", "t_min"), [(VP(), 3.0, 0.05), (VE(), 5.0, 0.1)], ids=["vp", "ve"])
def test_heun_solves_the_flow_of_a_patch_model(process, t_max, t_min):
    """On a nonlinear exact model Heun converges with order 2 to scipy's solution of the probability-flow ODE."""
    denoiser, x = patch_denoiser(), normal(1, 1, 5, 5) * float(process.sigma(t_max))

    def flow(t, y):
        x_t = torch.as_tensor(y).reshape(x.shape)
        return process.evaluate(denoiser, x_t, t, "ode").flatten().numpy()

    solution = solve_ivp(flow, (t_max, t_min), x.flatten().numpy(), method="DOP853", rtol=1e-9, atol=1e-9)
    expected = torch.as_tensor(solution.y[:, -1]).reshape(x.shape)
    errors = [
        float(
            (simulate(denoiser, process, x, log_grid(t_max, t_min, steps), sampler=HEUN).state - expected).abs().max()
        )
        for steps in (40, 80, 160)
    ]
    assert errors[-1] < 1e-3
    assert float(orders(errors)[-1]) == pytest.approx(2, abs=0.1)


def test_heun_step_is_algorithm_1():
    """A step of Heun's method averages the slopes (x - D) / sigma before and after an Euler step."""
    denoiser, x, (high, low) = patch_denoiser(), 2 * normal(1, 1, 5, 5), (2.0, 1.5)
    d = (x - denoiser(x, high)) / high
    proposal = x + (low - high) * d
    d_next = (proposal - denoiser(proposal, low)) / low
    found = simulate(denoiser, VE(), x, torch.tensor([high, low], dtype=torch.float64), sampler=HEUN).state
    torch.testing.assert_close(found, x + (low - high) * (d + d_next) / 2, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("process", [VP(), VE()], ids=["vp", "ve"])
def test_heun_ends_at_zero_noise_with_an_euler_step(process):
    """The last step to zero noise is an Euler step, in VE the denoised state; the denoiser never gets sigma = 0."""
    denoiser, levels = patch_denoiser(), []

    def recorded(x, sigma):
        levels.append(float(sigma))
        return denoiser(x, sigma)

    times = torch.tensor([2.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    run = simulate(recorded, process, normal(2, 1, 5, 5), times, sampler=HEUN, snapshots_at=[2, 3])
    before, after = run.snapshots.unbind(1)
    expected = before - 0.5 * process.evaluate(denoiser, before, 0.5, "ode")
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)
    if isinstance(process, VE):
        torch.testing.assert_close(after, denoiser(before, 0.5), rtol=1e-12, atol=1e-12)
    assert min(levels) == pytest.approx(float(process.noise_level(0.5)), rel=1e-12)
    assert len(levels) == 2 * 3 - 1


def coarse_warning(process, times):
    """Return the warning's text, or None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        EulerMaruyama().check(process, times)
    assert all(issubclass(warning.category, CoarseStepWarning) for warning in caught)
    return str(caught[0].message) if caught else None


def test_the_papers_grid_is_fine_enough():
    """T = 50, t_min = 1e-3 in 2000 steps is silent; so are gentler schedules."""
    assert coarse_warning(VP(), log_grid(50.0, 1e-3, 2000)) is None
    assert coarse_warning(VP(Linear()), log_grid(1.0, 1e-3, 600)) is None


@pytest.mark.parametrize("steps", [20, 50, 400])
@pytest.mark.parametrize(
    ("process", "t_max"),
    [(VP(), 50.0), (VP(Linear(20.0, 60.0)), 1.0), (VP(Constant(40.0)), 1.0)],
    ids=["1", "linear", "40"],
)
def test_coarse_steps_are_named_with_a_remedy(process, t_max, steps):
    """The number of steps that a warning names is silent, and one step less is not: enough, and none wasted."""
    text = coarse_warning(process, log_grid(t_max, 1e-3, steps))
    assert re.match(rf"steps: {steps} are too coarse: the step from t = \S+ (diverges|inflates the variance)", text)
    needed = int(re.search(r"use at least (\d+) steps", text).group(1))
    assert coarse_warning(process, log_grid(t_max, 1e-3, needed)) is None
    assert coarse_warning(process, log_grid(t_max, 1e-3, needed - 1)) is not None


@pytest.mark.parametrize("step", [0.4, 1.0, 2.0])
def test_the_stated_inflation_is_the_real_one(step):
    """The warning's percentage is the excess of the stationary variance of Euler-Maruyama where D = 0 (rate 1/2)."""
    times = torch.arange(70.0, 30.0, -step, dtype=torch.float64)
    text = coarse_warning(VP(), times)
    stated = int(re.search(r"inflates the variance by (\d+) %", text).group(1))
    steps = len(times) - 1
    x = torch.zeros(steps + 1, 1, 4, dtype=torch.float64)
    state = simulate(lambda x, sigma: torch.zeros_like(x), VP(), x, times, Impulses(steps + 1)).state
    variance = float(state.square().sum())  # the impulses' responses stay at the origin; the exact law has variance 1
    assert stated == round(100 * (variance - 1))


def test_divergence_is_said():
    """Beyond rate x step = 2 the recursion grows without bound and the warning says so."""
    assert "diverges" not in coarse_warning(VP(), torch.arange(60.0, 30.0, -3.9, dtype=torch.float64))
    assert "diverges" in coarse_warning(VP(), torch.arange(60.0, 30.0, -4.1, dtype=torch.float64))


def test_a_last_step_to_zero_noise_is_not_checked():
    """Steps to zero noise have no stationary variance: a grid that ends there is judged by its other steps."""
    grid = log_grid(50.0, 1e-3, 2000)
    assert coarse_warning(VP(), torch.cat([grid, torch.zeros(1, dtype=torch.float64)])) is None
    assert coarse_warning(VE(), torch.tensor([1.0, 0.0], dtype=torch.float64)) is None
    assert coarse_warning(VE(), rho_grid(levels=32)) is not None
