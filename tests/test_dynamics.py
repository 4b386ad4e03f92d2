import itertools
import math
import re
import warnings

import pytest
import torch
from scipy.integrate import solve_ivp

from softmode.dynamics import (
    LOOK_EVERY,
    CoarseStepWarning,
    NonFiniteStateError,
    TrajectoryNoise,
    check_steps,
    euler_maruyama,
    heun,
    initial_state,
    simulate,
    trajectory_seed,
)
from softmode.exact.dictionary import paper_dictionary
from softmode.exact.gaussian import GaussianDenoiser, power_spectrum
from softmode.exact.patch import PatchDenoiser
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.correlation import sign_correlation, structure_factor
from softmode.observe.gains import exact_gains, jvp_gains
from softmode.process import VE, VP, log_grid, rho_grid
from softmode.schedule import Constant, Linear

STEPPERS = {"euler-maruyama": euler_maruyama, "heun": heun}
steppers = pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ornstein_zernike(*space, mass=0.3, strength=3.0):
    """Return a spectrum strength / (mass + khat^2)."""
    return strength / (mass + (2 - 2 * Lattice(space).wave_vectors().cos()).sum(-1))


def patch_denoiser():
    return PatchDenoiser(paper_dictionary(0, ReceptiveField.box(3, 2)))


def halving(x, sigma):
    """Return half the state: a denoiser for tests of the loop itself."""
    return 0.5 * x


def state(denoiser, process, x, t):
    return x


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


def sampled_variance(stepper, process, spectrum, times):
    """Return the exact variance per mode of the Gaussian model's samples: a sum of squared impulse responses.

    A linear scheme maps each Fourier mode to itself; a unit impulse in a step contributes to every mode the variance
    that unit white noise in that step does. The last trajectory carries the initial state's.
    """
    kicks = len(times) - 1 if stepper is euler_maruyama else 0
    x = torch.zeros(kicks + 1, 1, *spectrum.shape, dtype=torch.float64)
    x[-1].view(-1)[0] = process.sigma(times[0])
    final = simulate(GaussianDenoiser(spectrum), process, x, times, Impulses(kicks + 1), stepper=stepper).state
    return torch.fft.fftn(final[:, 0], dim=tuple(range(1, 1 + spectrum.ndim))).abs().square().sum(0)


def marginal(process, spectrum, t):
    return process.alpha(t) ** 2 * spectrum + process.sigma(t) ** 2


def exact_variance(stepper, process, spectrum, times):
    """Return the variance per mode of the exact reverse SDE or ODE of the Gaussian model, started from pure noise.

    The SDE keeps the marginal and forgets a departure from it as the square of its linear response; the ODE rescales.
    """
    T, t = times[0], times[-1]
    start, end = marginal(process, spectrum, T), marginal(process, spectrum, t)
    if stepper is heun:
        return process.sigma(T) ** 2 * end / start
    response = end / start * (process.alpha(T) / process.alpha(t))
    return end + (process.sigma(T) ** 2 - start) * response**2


@pytest.mark.parametrize("name", STEPPERS)
@pytest.mark.parametrize(("process", "t_max", "t_min"), [(VP(), 3.0, 0.05), (VE(), 8.0, 0.2)], ids=["vp", "ve"])
def test_convergence_order(name, process, t_max, t_min):
    """The variance of every mode converges with order 1 (Euler-Maruyama) or 2 (Heun) to the closed form."""
    stepper, order = STEPPERS[name], {"euler-maruyama": 1, "heun": 2}[name]
    spectrum = ornstein_zernike(8)
    errors = []
    for steps in (40, 80, 160, 320):
        times = log_grid(t_max, t_min, steps)
        exact = exact_variance(stepper, process, spectrum, times)
        errors.append((sampled_variance(stepper, process, spectrum, times) / exact - 1).abs())
    slopes = -torch.stack(errors).log2().diff(dim=0)
    assert (slopes - order).abs().max() < 0.1
    assert errors[-1].max() < 0.01


def test_exact_variance_solves_its_equation():
    """The closed-form variances used above obey dV/dt = 2 lambda V - g^2 (SDE) and dV/dt = 2 lambda V (ODE)."""
    spectrum = ornstein_zernike(8)
    for process, name in itertools.product((VP(), VE()), STEPPERS):
        stepper, convention = (STEPPERS[name], {"euler-maruyama": "sde", "heun": "ode"}[name])
        t = torch.tensor(0.6, dtype=torch.float64)
        T, h = 2.0 * torch.ones_like(t), 1e-5

        def variance(t, process=process, stepper=stepper, T=T):
            return exact_variance(stepper, process, spectrum, torch.stack([T, t]))

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
            (simulate(denoiser, process, x, log_grid(t_max, t_min, steps), stepper=heun).state - expected).abs().max()
        )
        for steps in (40, 80, 160)
    ]
    assert errors[-1] < 1e-3
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.1)


def test_heun_step_is_algorithm_1():
    """A step of Heun's method averages the slopes (x - D) / sigma before and after an Euler step."""
    denoiser, x, (high, low) = patch_denoiser(), 2 * normal(1, 1, 5, 5), (2.0, 1.5)
    d = (x - denoiser(x, high)) / high
    proposal = x + (low - high) * d
    d_next = (proposal - denoiser(proposal, low)) / low
    found = simulate(denoiser, VE(), x, torch.tensor([high, low], dtype=torch.float64), stepper=heun).state
    torch.testing.assert_close(found, x + (low - high) * (d + d_next) / 2, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("process", [VP(), VE()], ids=["vp", "ve"])
def test_heun_ends_at_zero_noise_with_an_euler_step(process):
    """The last step to zero noise is an Euler step, in VE the denoised state; the denoiser never gets sigma = 0."""
    denoiser, levels = patch_denoiser(), []

    def recorded(x, sigma):
        levels.append(float(sigma))
        return denoiser(x, sigma)

    times = torch.tensor([2.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    run = simulate(recorded, process, normal(2, 1, 5, 5), times, stepper=heun, snapshots_at=[2, 3])
    before, after = run.snapshots.unbind(1)
    expected = before - 0.5 * process.evaluate(denoiser, before, 0.5, "ode")
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)
    if isinstance(process, VE):
        torch.testing.assert_close(after, denoiser(before, 0.5), rtol=1e-12, atol=1e-12)
    assert min(levels) == pytest.approx(float(process.noise_level(0.5)), rel=1e-12)
    assert len(levels) == 2 * 3 - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 5), (1, 17), (3, 4, 5), (1, 8, 8)], ids=str)
def test_noise_of_a_trajectory_is_its_own(shape, dtype):
    """A trajectory's numbers are bit-identical in every batch, grouping and order, through several steps."""

    def draw(*trajectories):
        noise, eta = TrajectoryNoise(11, trajectories), torch.empty(len(trajectories), *shape, dtype=dtype)
        steps = torch.stack([noise.fill_(eta).clone() for _ in range(3)], 1)
        return dict(zip(trajectories, steps, strict=True))

    together = draw(0, 1, 2, 3)
    for group in ((0,), (3,), (1, 2), (3, 0, 2), (5, 1)):
        for index, stream in draw(*group).items():
            if index in together:
                assert torch.equal(stream, together[index])
    steps = [eta for stream in together.values() for eta in stream]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(steps, 2))


def test_noise_is_standard_normal_and_independent():
    """First four moments, and correlations across trajectories, steps and seeds, are those of independent normals."""
    sites = 100_000
    streams = []
    for seed in (0, 1):
        noise, eta = TrajectoryNoise(seed, [0, 1]), torch.empty(2, sites, dtype=torch.float64)
        streams += [row for _ in range(2) for row in noise.fill_(eta).clone()]
    eta = torch.stack(streams)
    count = eta.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        stderr = math.sqrt(variance / count)
        assert stderr < 0.011
        assert float((eta**power).mean()) == pytest.approx(moment, abs=4 * stderr)
    correlation = (eta @ eta.T / sites).triu(1)
    assert correlation.abs().max() < 4 / math.sqrt(sites)


def test_seeds_of_trajectories_differ():
    """Every (seed, trajectory) has a seed of its own in [0, 2^63), and the two do not commute."""
    seeds = {trajectory_seed(seed, trajectory) for seed in range(40) for trajectory in range(40)}
    assert len(seeds) == 1600
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert trajectory_seed(0, 1) != trajectory_seed(1, 0)
    assert trajectory_seed(5, 3) == trajectory_seed(5, 3)


def patch_run(trajectories, stepper=euler_maruyama, seed=2, dtype=torch.float64):
    """Run the patch model with observables on a lattice of 6 x 6."""
    process, times = VP(), log_grid(8.0, 0.05, 40)
    noise = TrajectoryNoise(seed, trajectories)
    x = initial_state(process, 8.0, noise, (1, 6, 6), dtype)
    return simulate(
        patch_denoiser(),
        process,
        x,
        times,
        noise,
        stepper=stepper,
        observables={
            "correlation": lambda d, p, x, t: sign_correlation(x),
            "structure": lambda d, p, x, t: structure_factor(x, 2),
            "gain": lambda d, p, x, t: exact_gains(d, x / p.alpha(t), p.noise_level(t), 2),
        },
        measure_at=[0, 10, 33, 40],
        snapshots_at=[0, 20, 40],
    )


@steppers
def test_results_do_not_depend_on_the_batch(stepper):
    """States, snapshots and curves of a trajectory agree in a batch of 4, in two batches of 2 and alone."""
    whole = patch_run(range(4), stepper)
    assert not torch.allclose(whole.state[0], whole.state[1])
    for group in ((0, 1), (2, 3), (3,), (0,), (2, 1)):
        part = patch_run(group, stepper)
        pairs = [(part.state, whole.state), (part.snapshots, whole.snapshots)]
        pairs += [(part.values[name], whole.values[name]) for name in whole.values]
        for some, every in pairs:
            torch.testing.assert_close(some, every[list(group)], rtol=1e-10, atol=1e-10)


@steppers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_run_twice_is_bit_identical(stepper, dtype):
    """The same seed gives the same bits; another seed gives other states."""
    one, two, other = (patch_run(range(3), stepper, seed, dtype) for seed in (2, 2, 3))
    assert one.state.dtype == dtype
    assert torch.equal(one.state, two.state)
    assert torch.equal(one.snapshots, two.snapshots)
    for name in one.values:
        assert torch.equal(one.values[name], two.values[name])
    assert not torch.allclose(one.state, other.state, atol=0.1)


@steppers
def test_measurements_and_snapshots_are_taken_where_asked(stepper):
    """Index k means the state at times[k], the start and the end included; times, order and the given x are kept."""
    denoiser, process, times = patch_denoiser(), VP(), log_grid(3.0, 0.1, 12)
    x = normal(3, 1, 5, 5)
    before, seen, done = x.clone(), [], []

    def moment(d, p, state, t):
        seen.append(float(t))
        assert d is denoiser
        assert p is process
        return state.square().mean((1, 2, 3))

    run = simulate(
        denoiser,
        process,
        x,
        times,
        TrajectoryNoise(1, range(3)),
        stepper=stepper,
        observables={"state": state, "moment": moment},
        measure_at=[0, 5, 12],
        snapshots_at=[0, 4, 5, 12],
        on_step=lambda: done.append(1),
    )
    assert torch.equal(x, before)
    assert len(done) == 12
    assert torch.equal(run.times, times[[0, 5, 12]])
    assert seen == run.times.tolist()
    assert torch.equal(run.snapshot_times, times[[0, 4, 5, 12]])
    assert run.snapshots.shape == (3, 4, 1, 5, 5)
    assert torch.equal(run.snapshots[:, 0], x)
    assert torch.equal(run.snapshots[:, -1], run.state)
    assert torch.equal(run.values["state"], run.snapshots[:, [0, 2, 3]])
    torch.testing.assert_close(run.values["moment"], run.values["state"].square().mean((2, 3, 4)))
    for i, k in ((1, 4), (2, 5)):
        shorter = simulate(denoiser, process, x, times[: k + 1], TrajectoryNoise(1, range(3)), stepper=stepper)
        assert torch.equal(shorter.state, run.snapshots[:, i])


def test_nothing_measured_gives_empty_arrays():
    """Without observables or snapshots a run returns the final state alone."""
    run = simulate(halving, VP(), normal(2, 1, 5, 5), log_grid(1.0, 0.5, 3), TrajectoryNoise(0, [0, 1]))
    assert run.values == {}
    assert run.times.shape == (0,)
    assert run.snapshots.shape == (2, 0, 1, 5, 5)


@pytest.mark.parametrize("name", ["measure_at", "snapshots_at"])
@pytest.mark.parametrize("index", [-1, 4])
def test_indices_off_the_grid_are_refused(name, index):
    """An index that is not one of the grid's is refused by name before anything is computed."""
    with pytest.raises(ValueError, match=rf"^{name}: got indices \[0, {index}\]; expected grid indices from 0 to 3"):
        simulate(
            patch_denoiser(), VP(), normal(1, 1, 5, 5), log_grid(1.0, 0.5, 3), TrajectoryNoise(0, [0]),
            **{name: [0, index]},
        )  # fmt: skip


@steppers
def test_sampling_keeps_no_graph(stepper):
    """A denoiser with trainable parameters sees states without a graph; forward-mode AD still works on the way."""
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    grown = []

    def network(x, sigma):
        grown.append(x.requires_grad)
        return weight * x / (1 + sigma**2)

    times = log_grid(1.0, 0.5, 4)
    gain = {"gain": lambda d, p, x, t: jvp_gains(d, x / p.alpha(t), p.noise_level(t), 1)}
    run = simulate(
        network, VP(), normal(2, 1, 5, 5), times, TrajectoryNoise(0, [0, 1]), stepper=stepper, observables=gain,
        measure_at=range(5),
    )  # fmt: skip
    assert not any(grown)
    assert not run.state.requires_grad
    expected = 0.7 / (1 + VP().noise_level(times) ** 2)
    torch.testing.assert_close(run.values["gain"], expected[None, :, None, None].expand(2, 5, 2, 2))


STEPS = 70


@steppers
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 30, LOOK_EVERY - 1, LOOK_EVERY, 45, 63, 64, STEPS - 1])
def test_a_broken_state_is_named(stepper, value, step):
    """A NaN or infinity from the denoiser raises with exactly its time and trajectory, wherever it appears."""
    times, calls = log_grid(2.0, 0.1, STEPS), []
    slope = 1 if stepper is euler_maruyama else 2  # calls per step

    def broken(x, sigma):
        out = halving(x, sigma)
        if len(calls) >= slope * step:
            out[1, 0, 2, 3] = value
        if len(calls) > slope * step:
            out[0, 0, 0, 0] = value  # one call later: another trajectory, which must not be blamed
        calls.append(1)
        return out

    with pytest.raises(NonFiniteStateError) as error:
        simulate(broken, VP(), normal(3, 1, 5, 5), times, TrajectoryNoise(0, [5, 6, 9]), stepper=stepper)
    # Heun's second slope breaks trajectory 5 within the same step
    assert error.value.trajectory == (6 if stepper is euler_maruyama else 5)
    assert error.value.t == float(times[step + 1])
    assert f"trajectory {error.value.trajectory} became NaN or infinite at t = {error.value.t:.6g}" in str(error.value)
    assert len(calls) <= slope * (step + 1 + LOOK_EVERY)


def test_a_broken_initial_state_is_named():
    """A NaN in the given states is reported at the first time, and without noise by its index in the batch."""
    x, times = normal(3, 1, 5, 5), log_grid(2.0, 0.1, 10)
    x[2, 0, 0, 0] = math.nan
    with pytest.raises(NonFiniteStateError) as error:
        simulate(halving, VP(), x, times, stepper=heun)
    assert (error.value.trajectory, error.value.t) == (2, 2.0)


def coarse_warning(process, times):
    """Return the warning's text, or None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_steps(process, times)
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


@pytest.mark.parametrize(("process", "t"), [(VP(), 0.7), (VP(), 50.0), (VE(), 80.0)], ids=["vp", "vp-50", "ve"])
def test_initial_states_are_noise_of_the_processes_amplitude(process, t):
    """Sampling starts from N(0, sigma(t)^2), drawn from the trajectories' own streams."""
    noise = TrajectoryNoise(4, range(3))
    x = initial_state(process, t, noise, (2, 50, 50), torch.float32)
    assert (x.shape, x.dtype) == ((3, 2, 50, 50), torch.float32)
    count, scale = x.numel(), float(process.sigma(t))
    assert float(x.mean()) / scale == pytest.approx(0, abs=4 / math.sqrt(count))
    assert float(x.double().square().mean()) / scale**2 == pytest.approx(1, abs=4 * math.sqrt(2 / count))
    alone = initial_state(process, t, TrajectoryNoise(4, [2]), (2, 50, 50), torch.float32)
    assert torch.equal(alone[0], x[2])


def test_initial_noise_beyond_the_dtype_is_refused():
    """A noise level whose square overflows float32 is refused with the argument's name; float64 can carry it."""
    noise = TrajectoryNoise(0, [0])
    with pytest.raises(ValueError, match=r"^t_max: got 100, noise level 5\.18e\+21, beyond torch\.float32"):
        initial_state(VP(), 100.0, noise, (1, 4), torch.float32)
    assert initial_state(VP(), 100.0, noise, (1, 4), torch.float64).isfinite().all()
    with pytest.raises(ValueError, match="t_max"):
        initial_state(VE(), math.inf, noise, (1, 4), torch.float64)
