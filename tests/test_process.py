import math
from functools import partial

import pytest
import torch
from torch.distributions import Independent, MixtureSameFamily, Normal
from torch.distributions.categorical import Categorical

from helpers.errors import refused
from helpers.random import normal
from softmode.beta import Constant, Cosine, Custom, Linear
from softmode.exact.dictionary import random_dictionary
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.lattice import Lattice, ReceptiveField
from softmode.process import VE, VP, log_grid, parse_process, rho_grid

SCHEDULES = {
    "constant": Constant(),
    "constant-2.5": Constant(2.5),
    "linear": Linear(),
    "linear-flat": Linear(3.0, 3.0),
    "linear-falling": Linear(5.0, 1.0),
    "cosine": Cosine(),
    "cosine-0.1": Cosine(0.1),
    "custom": Custom(lambda t: 1 + t**2),
}
PROCESSES = {name: VP(schedule) for name, schedule in SCHEDULES.items()} | {"ve": VE()}
TIMES = torch.tensor([0.01, 0.1, 0.35, 0.8, 0.97], dtype=torch.float64)

schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
variance_preserving = pytest.mark.parametrize(
    "process", [p for p in PROCESSES.values() if isinstance(p, VP)], ids=list(SCHEDULES)
)
conventions = pytest.mark.parametrize("convention", ["score", "sde", "ode"])


def derivative(function, t):
    """Central difference, extrapolated once: the error is of fourth order in the step."""
    coarse, fine = ((function(t + h) - function(t - h)) / (2 * h) for h in (4e-4 * t, 2e-4 * t))
    return (4 * fine - coarse) / 3


def mixture_score(x_t, data, alpha, sigma):
    """Return grad log p_t of a finite data set in the process's coordinates, from the mixture density itself."""

    def log_density(x):
        components = Independent(Normal(alpha * data.flatten(1), sigma), 1)
        return MixtureSameFamily(Categorical(torch.ones(len(data))), components).log_prob(x.flatten(1)).sum()

    x_t = x_t.clone().requires_grad_()
    return torch.autograd.grad(log_density(x_t), x_t)[0]


@schedules
def test_integral_is_the_integral_of_beta(schedule):
    """B(0) = 0 and dB/dt = beta(t), by a difference of fourth order."""
    assert float(schedule.integral(0.0)) == 0
    torch.testing.assert_close(derivative(schedule.integral, TIMES), schedule.beta(TIMES), rtol=1e-7, atol=0)
    assert (schedule.beta(TIMES) > 0).all()


@pytest.mark.parametrize(
    ("schedule", "beta", "integral"),
    [
        (Constant(2.5), lambda t: 2.5, lambda t: 2.5 * t),
        (Linear(), lambda t: 0.1 + 19.9 * t, lambda t: 0.1 * t + 9.95 * t * t),
        (
            Cosine(),
            lambda t: math.pi / 1.008 * math.tan(math.pi / 2 * (t + 0.008) / 1.008),
            lambda t: (
                -2 * math.log(math.cos(math.pi / 2 * (t + 0.008) / 1.008) / math.cos(math.pi / 2 * 0.008 / 1.008))
            ),
        ),
        (Custom(lambda t: 1 + t**2), lambda t: 1 + t**2, lambda t: t + t**3 / 3),
    ],
    ids=["constant", "linear", "cosine", "custom"],
)
def test_schedules_are_the_published_ones(schedule, beta, integral):
    """Rate and integral equal their published formulas: constant, song2021, nichol2021, and any function."""
    for t in TIMES.tolist():
        assert float(schedule.beta(t)) == pytest.approx(beta(t), rel=1e-13)
        assert float(schedule.integral(t)) == pytest.approx(integral(t), rel=1e-12)


@schedules
def test_time_inverts_the_integral(schedule):
    """time(B(t)) = t to rounding, from t = 1e-12 to the end of the schedule, and time(0) = 0."""
    t = torch.tensor([1e-12, 1e-8, 1e-4, 0.02, 0.5, 0.9, 0.999], dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.integral(t)), t, rtol=1e-11, atol=0)
    assert float(schedule.time(0.0)) == 0


@processes
def test_time_inverts_the_noise_level(process):
    """time(sigma / alpha) = t, and sigma / alpha of time(level) = level, over all useful noise levels."""
    torch.testing.assert_close(process.time(process.noise_level(TIMES)), TIMES, rtol=1e-12, atol=0)
    levels = torch.tensor([1e-6, 0.002, 0.1, 0.7], dtype=torch.float64)
    torch.testing.assert_close(process.noise_level(process.time(levels)), levels, rtol=1e-11, atol=0)


@pytest.mark.parametrize(
    "process", [VP(), VP(Linear()), VP(Cosine()), VE()], ids=["constant", "linear", "cosine", "ve"]
)
def test_high_noise_levels_are_reached(process):
    """The noise level 80 of EDM is reached by every published process, to the digits that t near its end can carry."""
    assert float(process.noise_level(process.time(80.0))) == pytest.approx(80, rel=1e-12)


@variance_preserving
def test_vp_preserves_variance(process):
    """alpha^2 + sigma^2 = 1 at every time, and alpha = exp(-B / 2)."""
    alpha, sigma = process.alpha(TIMES), process.sigma(TIMES)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(TIMES), rtol=1e-13, atol=0)
    torch.testing.assert_close(-2 * alpha.log(), process.schedule.integral(TIMES), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(process.noise_level(TIMES), sigma / alpha)


@variance_preserving
def test_sigma_keeps_its_digits_at_small_times(process):
    """At t = 1e-12, where 1 - alpha^2 has none left, sigma = sqrt(beta(0) t) to ten digits."""
    t = 1e-12
    expected = math.sqrt(float(process.schedule.beta(0.0)) * t)
    assert float(process.sigma(t)) == pytest.approx(expected, rel=1e-9)


def test_paper_values_of_the_vp_process():
    """At beta = 1, alpha = e^(-t/2) and sigma = sqrt(1 - e^-t) (Eqs. 52, 53); r = 0 of |Omega| = 25 is at log 26."""
    for t in (1e-3, 1.0, 3.258, 50.0):
        assert float(VP().alpha(t)) == pytest.approx(math.exp(-t / 2), rel=1e-13)
        assert float(VP().sigma(t)) == pytest.approx(math.sqrt(1 - math.exp(-t)), rel=1e-12)
    assert float(VP().time(5.0)) == pytest.approx(math.log(26), rel=1e-13)


@processes
def test_times_keep_shape_and_dtype(process):
    """Every function of time maps tensors to their shape and dtype, and Python numbers to float64."""
    functions = [process.alpha, process.sigma, process.noise_level, process.diffusion, process.time]
    for function in functions:
        assert function(0.3).dtype == torch.float64
        for dtype in (torch.float32, torch.float64):
            out = function(torch.full((2, 3), 0.3, dtype=dtype))
            assert (out.shape, out.dtype) == ((2, 3), dtype)
            assert float(out[1, 2]) == pytest.approx(float(function(0.3)), rel=1e-5)


def test_custom_is_undefined_beyond_its_end():
    """A noise level that the schedule never reaches, or a negative integral, gives NaN; its end is still reached."""
    schedule = Custom(lambda t: 1 + t**2, t_end=2.0)
    end = float(schedule.integral(2.0))
    found = schedule.time(torch.tensor([end * 1.01, -0.1, end], dtype=torch.float64))
    assert found[:2].isnan().all()
    assert float(found[2]) == pytest.approx(2.0, rel=1e-13)
    assert VP(schedule).time(100.0).isnan()


@processes
@conventions
def test_drift_follows_from_alpha_and_sigma(process, convention):
    """Drifts come from f = dlog alpha/dt, g^2 = d sigma^2/dt - 2 f sigma^2: SDE f x - g^2 s, ODE f x - g^2 s / 2."""
    data = normal(5, 1, 4)
    denoiser = EmpiricalDenoiser(data)
    for t in TIMES.tolist():
        at = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = float(process.alpha(at)), float(process.sigma(at))
        f = float(derivative(lambda s: process.alpha(s).log(), at))
        g2 = float(derivative(lambda s: process.sigma(s).square(), at)) - 2 * f * sigma**2
        x_t = alpha * data[:3] + sigma * normal(3, 1, 4, seed=1)
        s = mixture_score(x_t, data, alpha, sigma)
        expected = {"score": s, "sde": f * x_t - g2 * s, "ode": f * x_t - 0.5 * g2 * s}[convention]
        scale = float(expected.abs().max())
        torch.testing.assert_close(process.evaluate(denoiser, x_t, t, convention), expected, rtol=0, atol=1e-7 * scale)
        assert float(process.diffusion(at)) == pytest.approx(math.sqrt(g2), rel=1e-7)


@variance_preserving
def test_vp_drifts_are_the_literal_ones(process):
    """Evaluate is Eq. 57 (score), Eq. 58 b = -beta x / 2 - beta s (sde), and -beta x / 2 - beta s / 2 (ode)."""
    data = normal(4, 2, 3, 3)
    x_t = normal(2, 2, 3, 3, seed=1)
    denoiser = EmpiricalDenoiser(data)
    for t in TIMES.tolist():
        alpha, sigma, beta = (float(f(t)) for f in (process.alpha, process.sigma, process.schedule.beta))
        s = mixture_score(x_t, data, alpha, sigma)
        tolerance = {"rtol": 1e-10, "atol": 1e-10 * float(s.abs().max()) * max(beta, 1.0)}
        torch.testing.assert_close(process.evaluate(denoiser, x_t, t, "score"), s, **tolerance)
        torch.testing.assert_close(process.evaluate(denoiser, x_t, t), -beta * x_t / 2 - beta * s, **tolerance)
        torch.testing.assert_close(process.evaluate(denoiser, x_t, t, "ode"), -beta * (x_t + s) / 2, **tolerance)


def test_edm_drifts_are_the_literal_ones():
    """For VE the ODE is (x - D) / sigma (App. G), the score (D - x) / sigma^2 and the SDE twice the ODE."""
    denoiser = EmpiricalDenoiser(normal(4, 1, 6))
    x = normal(3, 1, 6, seed=1)
    for sigma in (0.3, 1.7, 40.0):
        residual = x - denoiser(x, sigma)
        torch.testing.assert_close(VE().evaluate(denoiser, x, sigma, "ode"), residual / sigma)
        torch.testing.assert_close(VE().evaluate(denoiser, x, sigma), 2 * residual / sigma)
        torch.testing.assert_close(VE().evaluate(denoiser, x, sigma, "score"), -residual / sigma**2)


@variance_preserving
def test_vp_and_edm_states_have_one_score(process):
    """A VP state x is the EDM state x / alpha at sigma / alpha; its score is 1 / alpha times the EDM one."""
    denoiser = TwoStatePatch(ReceptiveField.box(3, 2))
    x_t = normal(2, 1, 5, 6)
    for t in TIMES.tolist():
        alpha, level = float(process.alpha(t)), float(process.noise_level(t))
        edm = VE().evaluate(denoiser, x_t / alpha, level, "score")
        torch.testing.assert_close(process.evaluate(denoiser, x_t, t, "score"), edm / alpha, rtol=1e-9, atol=1e-9)


def test_evaluate_keeps_float32():
    """A float32 state gives a float32 drift, also at T = 50, where x / alpha is 1e11."""
    x = normal(2, 1, 5, 5, dtype=torch.float32)
    denoiser = TwoStatePatch(ReceptiveField.box(3, 2))
    for t in (1e-3, 50.0):
        drift = VP().evaluate(denoiser, x, t)
        assert drift.dtype == torch.float32
        assert drift.isfinite().all()
    torch.testing.assert_close(VP().evaluate(denoiser, x, 50.0), 0.5 * x, rtol=1e-5, atol=1e-6)


LITERAL = {
    ("vp", "score"): lambda G, s, beta: -(1 - G) / s**2,
    ("vp", "sde"): lambda G, s, beta: beta * (-1 / 2 + (1 - G) / s**2),
    ("vp", "ode"): lambda G, s, beta: beta * (-1 / 2 + (1 - G) / (2 * s**2)),
    ("ve", "score"): lambda G, s, beta: -(1 - G) / s**2,
    ("ve", "sde"): lambda G, s, beta: 2 * (1 - G) / s,
    ("ve", "ode"): lambda G, s, beta: (1 - G) / s,
}


@processes
@conventions
def test_eigenvalues_are_the_literal_table(process, convention):
    """The eigenvalue of a gain is the table of conventions, for gains of any shape against times of any shape."""
    gains = torch.tensor([-0.2, 0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    kind = "vp" if isinstance(process, VP) else "ve"
    found = process.eigenvalue(gains[:, None], TIMES, convention)
    for i, j in ((i, j) for i in range(len(gains)) for j in range(len(TIMES))):
        t = float(TIMES[j])
        beta = float(process.schedule.beta(t)) if kind == "vp" else math.nan
        expected = LITERAL[kind, convention](float(gains[i]), float(process.sigma(t)), beta)
        assert float(found[i, j]) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_default_convention_is_the_reverse_sde():
    """Without a convention, drift, evaluate and eigenvalue mean the reverse SDE of Eq. 58."""
    x = torch.ones(1, 1, 4, dtype=torch.float64)
    for process in (VP(), VE()):
        assert process.drift(0.7) == process.drift(0.7, "sde")
        assert process.evaluate(torch.mul, x, 0.7).equal(process.evaluate(torch.mul, x, 0.7, "sde"))
        assert process.eigenvalue(TIMES, 0.7).equal(process.eigenvalue(TIMES, 0.7, "sde"))


@processes
@conventions
def test_eigenvalues_are_rayleigh_quotients_of_the_drift(process, convention):
    """The eigenvalue of an exact gain is the Rayleigh quotient of the drift's dense Jacobian, per shell and axis."""
    lattice = Lattice((5, 6))
    denoiser = PatchDenoiser(random_dictionary(3, 0, ReceptiveField.box(3, 2)))
    x_t = normal(1, 1, 5, 6)
    modes = lattice.modes(2).flatten(3)
    for t in (0.35, 0.97):
        drift = partial(process.evaluate, denoiser, t=t, convention=convention)
        jacobian = torch.func.jacrev(drift)(x_t).reshape(30, 30)
        quotients = torch.einsum("napi,ij,napj->nap", modes, jacobian, modes).mean(-1)
        gains = denoiser.dispersion(x_t / process.alpha(t), process.noise_level(t), lattice.shell_vectors(2))[0]
        found = process.eigenvalue(gains, t, convention)
        torch.testing.assert_close(found, quotients, rtol=1e-9, atol=1e-9 * float(jacobian.abs().max()))


def test_the_two_critical_times_of_the_minimal_model():
    """At x = 0, r = 0 (G = 1) is at log 26 = 3.258; the SDE drift's zero is another time, 3.912 (facts)."""
    field = ReceptiveField.box(5, 2)
    denoiser = TwoStatePatch(field)
    zero, k = torch.zeros(1, 1, 6, 6, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)

    def gain(t):
        return denoiser.dispersion(zero, VP().noise_level(t), k)

    assert float(gain(math.log(26))) == pytest.approx(1, rel=1e-12)
    assert float(VP().eigenvalue(gain(math.log(26)), math.log(26), "score")) == pytest.approx(0, abs=1e-12)
    assert float(VP().eigenvalue(gain(math.log(26)), math.log(26))) == pytest.approx(-0.5, rel=1e-12)
    a = math.sqrt(25**2 + 1) - 25  # the root of a^2 + 2 |Omega| a - 1 = 0, a = alpha^2
    assert -math.log(a) == pytest.approx(3.912, abs=5e-4)
    assert float(VP().eigenvalue(gain(-math.log(a)), -math.log(a))) == pytest.approx(0, abs=1e-12)


def test_log_grid_is_equation_59():
    """t_k = exp(log T + (k / N)(log t_min - log T)) with both ends exact, for the paper's grid."""
    grid = log_grid(50.0, 1e-3, 2000)
    assert (len(grid), grid.dtype) == (2001, torch.float64)
    assert (float(grid[0]), float(grid[-1])) == (50.0, 1e-3)
    for k in (1, 700, 1999):
        expected = math.exp(math.log(50) + k / 2000 * (math.log(1e-3) - math.log(50)))
        assert float(grid[k]) == pytest.approx(expected, rel=1e-13)
    assert (grid.diff() < 0).all()
    assert log_grid(2.0, 0.3, 1).tolist() == [2.0, 0.3]


@pytest.mark.parametrize(
    ("t_max", "t_min", "steps", "name"),
    [
        (50.0, 1e-3, 0, "steps"), (50.0, 1e-3, -5, "steps"), (1e-3, 50.0, 9, "t_max"), (1.0, 1.0, 9, "t_max"),
        (1.0, 0.0, 9, "t_max"), (1.0, -1.0, 9, "t_max"), (math.inf, 1.0, 9, "t_max"), (math.nan, 1.0, 9, "t_max"),
        (1.0, math.nan, 9, "t_max"),
    ],
)  # fmt: skip
def test_log_grid_refuses_bad_input(t_max, t_min, steps, name):
    """Steps below 1 and times that are not positive, finite and falling are refused by name, in one line."""
    with refused(rf"^{name}: got"):
        log_grid(t_max, t_min, steps)


def test_rho_grid_is_the_edm_formula():
    """sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho, both ends exact (G.2)."""
    grid = rho_grid()
    assert (len(grid), float(grid[0]), float(grid[-1])) == (32, 80.0, 0.002)
    for i in (1, 15, 30):
        expected = (80 ** (1 / 7) + i / 31 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
        assert float(grid[i]) == pytest.approx(expected, rel=1e-12)
    assert (grid.diff() < 0).all()
    linear = rho_grid(3.0, 1.0, 5, 1.0)
    torch.testing.assert_close(linear, torch.tensor([3.0, 2.5, 2.0, 1.5, 1.0], dtype=torch.float64))


@pytest.mark.parametrize(
    "arguments",
    [
        (80.0, 0.002, 1), (80.0, 0.002, 8, 0.0), (80.0, 0.002, 8, -7.0), (80.0, 0.002, 8, math.nan),
        (80.0, 0.002, 8, math.inf), (0.002, 80.0), (80.0, 0.0), (80.0, -1.0), (math.inf, 1.0), (math.nan, 1.0),
        (1.0, 1.0),
    ],
)  # fmt: skip
def test_rho_grid_refuses_bad_input(arguments):
    """Fewer than two levels, an exponent that is not positive and finite, and levels out of order are refused."""
    with refused(r"^(sigma_max|levels, rho): got"):
        rho_grid(*arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vp", VP()),
        ("vp:1", VP()),
        ("vp:2.5", VP(Constant(2.5))),
        ("vp-linear", VP(Linear(0.1, 20.0))),
        ("vp-linear:0.2", VP(Linear(0.2, 20.0))),
        ("vp-linear:0.2:10", VP(Linear(0.2, 10.0))),
        ("vp-cosine", VP(Cosine(0.008))),
        ("vp-cosine:0.01", VP(Cosine(0.01))),
        ("ve", VE()),
    ],
)
def test_parse_process_reads_every_form(text, expected):
    """Each command-line form gives its process; numbers left out take the published defaults."""
    assert parse_process(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "vpp", "VP", "vp:", "vp:x", "vp:0", "vp:-1", "vp:nan", "vp:inf", "vp:1:2", "vp-linear:0.1:20:1",
        "vp-linear::20", "vp-linear:0:20", "vp-cosine:0", "vp-cosine:0.008:1", "ve:1", "edm", "sigma",
    ],
)  # fmt: skip
def test_parse_process_refuses_bad_input_in_one_line(text):
    """Anything else is a ValueError of one line that names the argument and shows what came."""
    with refused(r"^schedule: got '") as error:
        parse_process(text)
    assert repr(text) in str(error.value)
