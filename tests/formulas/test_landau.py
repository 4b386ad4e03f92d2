import math

import pytest
import torch
from scipy.optimize import brentq

from helpers.dense import jacobian, rayleigh_quotients
from helpers.errors import refused
from helpers.models import processes
from helpers.random import normal
from softmode.beta import Cosine, Linear
from softmode.exact.dictionary import PatchDictionary, paper_dictionary, random_dictionary, two_state_dictionary
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.formulas import bifurcation
from softmode.formulas.landau import (
    GinzburgLandau,
    branch_dispersion,
    critical_time,
    dispersion,
    drift_critical_time,
    effective_coupling,
    ginzburg_landau,
    kappa_tensor,
    mean_field_branch,
    mean_field_length,
    quadratic_hamiltonian,
)
from softmode.lattice import Lattice, ReceptiveField
from softmode.process import VE, VP

BOX = ReceptiveField.box(5)


def weighted_dictionary() -> PatchDictionary:
    """Patterns of unequal norms on an uneven field: the posterior at x = 0 is not the prior."""
    field = ReceptiveField.parse("offsets:-1,0;0,0;0,1;2,1")
    rows = torch.tensor([[1.0, 0.5, -0.3, 0.8], [2.0, 1.5, 1.0, 0.5], [0.1, -0.4, 0.7, 0.2]], dtype=torch.float64)
    prior = torch.tensor([0.3, 0.15, 0.05] * 2, dtype=torch.float64)
    return PatchDictionary(field, torch.cat([rows, -rows]), prior)


def uniform_among_zero_sums(weight: float) -> PatchDictionary:
    """The two uniform patterns with probability `weight` together, and patterns that sum to zero for the rest."""
    field = ReceptiveField.parse("offsets:0;1;2;3", dimensions=1)
    rows = torch.tensor([[1.0, 1, 1, 1], [1.0, -1, 1, -1]], dtype=torch.float64)
    prior = torch.tensor([weight, 1 - weight] * 2, dtype=torch.float64) / 2
    return PatchDictionary(field, torch.cat([rows, -rows]), prior)


SOURCES = [
    pytest.param(ReceptiveField.box(3), id="box"),
    pytest.param(ReceptiveField.parse("offsets:0;1;3", dimensions=1), id="one-sided-1d"),
    pytest.param(ReceptiveField.ball(1.0, 3), id="ball-3d"),
    pytest.param(paper_dictionary(2, ReceptiveField.box(3)), id="paper"),
    pytest.param(random_dictionary(3, 1, ReceptiveField.cross(1)), id="random"),
    pytest.param(weighted_dictionary(), id="weighted"),
    pytest.param(uniform_among_zero_sums(0.2), id="discontinuous"),
]


def denoiser_of(source):
    return TwoStatePatch(source) if isinstance(source, ReceptiveField) else PatchDenoiser(source)


def field_of(source) -> ReceptiveField:
    return source if isinstance(source, ReceptiveField) else source.receptive_field


def lattice_of(source) -> tuple[int, ...]:
    return {1: (7,), 2: (5, 6), 3: (4, 3, 5)}[field_of(source).dimensions]


def uniform_score(source, process, t, m: torch.Tensor) -> torch.Tensor:
    """Score of a uniform field m at one site, by the posterior mean over patterns."""
    dictionary = two_state_dictionary(source) if isinstance(source, ReceptiveField) else source
    alpha, variance = process.alpha(t), process.sigma(t).square()
    distance = (m - alpha * dictionary.patterns).square().sum(1)
    weights = (dictionary.prior.log() - distance / (2 * variance)).softmax(0)
    return (alpha * (weights * dictionary.centre).sum() - m) / variance


def spectrum(source, process, t, level: float) -> torch.Tensor:
    """Rayleigh quotients of the exact score's dense Jacobian around a uniform field, for every wave, [*space]."""
    space = lattice_of(source)
    x = torch.full((1, 1, *space), level, dtype=torch.float64)
    return rayleigh_quotients(jacobian(lambda y: process.evaluate(denoiser_of(source), y, t, "score"), x), space)


@pytest.mark.parametrize("process", [VP(), VP(Linear()), VE()])
@pytest.mark.parametrize("source", SOURCES)
def test_mass_and_cubic_are_derivatives_of_the_exact_uniform_score(process, source):
    times = process.time(torch.tensor([0.7, 2.0, 6.0], dtype=torch.float64))
    coefficients = ginzburg_landau(process, times, source)
    for i, t in enumerate(times):
        m = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
        derivatives = [uniform_score(source, process, t, m)]
        for _ in range(3):
            derivatives.append(torch.autograd.grad(derivatives[-1], m, create_graph=True)[0])
        _, first, second, third = (derivative.item() for derivative in derivatives)
        assert float(coefficients.r[i]) == pytest.approx(-first, rel=1e-11)
        assert float(coefficients.u[i]) == pytest.approx(-third / 6, rel=1e-9)
        assert abs(second) < 1e-9 * abs(third)


@pytest.mark.parametrize("source", SOURCES)
def test_the_exact_denoiser_follows_the_expansion_to_fifth_order(source):
    process, t = VP(), 2.5
    coefficients = ginzburg_landau(process, t, source)
    errors = []
    for m in (0.01, 0.02):
        x = torch.full((1, 1, *lattice_of(source)), m, dtype=torch.float64)
        score = process.evaluate(denoiser_of(source), x, t, "score")
        errors.append(float(score.flatten()[0] + coefficients.r * m + coefficients.u * m**3))
    assert errors[1] / errors[0] == pytest.approx(32, rel=0.05)


@processes
@pytest.mark.parametrize("field", [BOX, ReceptiveField.ball(1.5, 3), ReceptiveField.cross(2, 1)])
def test_two_state_coefficients_are_those_of_appendix_a(process, field):
    t = process.time(torch.tensor([[0.5, 3.0], [5.0, 40.0]], dtype=torch.float64))
    alpha, sigma = process.alpha(t), process.sigma(t)
    coefficients = ginzburg_landau(process, t, field)
    torch.testing.assert_close(coefficients.r, 1 / sigma**2 - alpha**2 / sigma**4 * field.size, rtol=1e-13, atol=0)
    torch.testing.assert_close(coefficients.kappa, alpha**2 / sigma**4 * field.c_omega, rtol=1e-13, atol=0)
    torch.testing.assert_close(coefficients.u, alpha**4 / (3 * sigma**8) * field.size**3, rtol=1e-13, atol=0)
    stiffness = (alpha**2 / sigma**4)[..., None, None] * field.c_tensor()
    torch.testing.assert_close(kappa_tensor(process, t, field), stiffness, rtol=1e-13, atol=0)


@pytest.mark.parametrize("source", SOURCES)
def test_dispersion_is_the_spectrum_of_the_dense_jacobian(source):
    process, lattice = VP(Cosine()), Lattice(lattice_of(source))
    times = process.time(torch.tensor([1.5, 4.0], dtype=torch.float64))
    found = dispersion(process, times, source, lattice.wave_vectors())
    assert found.shape == (2, *lattice.shape)
    for t, row in zip(times, found, strict=True):
        torch.testing.assert_close(row, -spectrum(source, process, t, 0.0), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("process", [VP(), VE()])
@pytest.mark.parametrize("level", [1.0, 2.5, 4.0])
def test_branch_dispersion_is_the_spectrum_around_the_branch(process, level):
    field, lattice = ReceptiveField.box(3), Lattice((5, 6))
    t = process.time(level)
    m = float(mean_field_branch(process, t, 9.0))
    found = branch_dispersion(process, t, field, lattice.wave_vectors())
    torch.testing.assert_close(found, -spectrum(field, process, t, m), rtol=1e-10, atol=1e-12)


def test_every_wave_is_stable_on_the_branch_but_not_at_zero():
    times, k = torch.linspace(0.1, 2.2, 20, dtype=torch.float64), Lattice((16, 16)).wave_vectors()
    assert bool((branch_dispersion(VP(), times, ReceptiveField.box(3), k) > 0).all())
    assert bool((dispersion(VP(), times, ReceptiveField.box(3), k).flatten(1).amin(1) < 0).all())


@pytest.mark.parametrize("source", SOURCES)
def test_the_expansion_in_the_wave_vector_is_exact_to_fourth_order(source):
    process, d = VP(), field_of(source).dimensions
    t = torch.tensor([1.0, 3.0], dtype=torch.float64)
    direction = torch.tensor([0.8, -0.5, 0.3], dtype=torch.float64)[:d]
    r, stiffness = ginzburg_landau(process, t, source).r, kappa_tensor(process, t, source)
    errors = []
    for size in (0.04, 0.02):
        k = size * direction
        errors.append(dispersion(process, t, source, k) - r - torch.einsum("tmn,m,n->t", stiffness, k, k))
    torch.testing.assert_close(errors[0] / errors[1], torch.full_like(r, 16), rtol=0.01, atol=0)


def test_kappa_is_the_average_of_the_stiffness_over_directions():
    t, source = torch.tensor([1.0, 3.0], dtype=torch.float64), weighted_dictionary()
    angles = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    k = 1e-3 * torch.stack([angles.cos(), angles.sin()], dim=-1)
    coefficients = ginzburg_landau(VP(), t, source)
    mean = (dispersion(VP(), t, source, k).mean(1) - coefficients.r) / 1e-6
    torch.testing.assert_close(coefficients.kappa, mean, rtol=1e-4, atol=0)


@processes
@pytest.mark.parametrize("source", [BOX, ReceptiveField.ball(2.0, 3), paper_dictionary(0), paper_dictionary(7)])
def test_the_critical_time_is_where_the_exact_gain_is_one(process, source):
    omega = float(source.size) if isinstance(source, ReceptiveField) else source.omega_eff
    denoiser, d = denoiser_of(source), field_of(source).dimensions
    zero, k = torch.zeros(1, 1, *[5] * d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)

    def excess(log_level: float) -> float:
        return float(denoiser.dispersion(zero, math.exp(log_level), k)) - 1

    t_c = critical_time(process, omega)
    found = math.exp(brentq(excess, 0.0, 4.0, xtol=1e-14, rtol=1e-14))
    assert float(process.noise_level(t_c)) == pytest.approx(found, rel=1e-12)
    scale = float(process.sigma(t_c)) ** 2
    assert abs(float(ginzburg_landau(process, t_c, source).r)) * scale < 1e-12
    assert (
        abs(float(process.eigenvalue(denoiser.dispersion(zero, process.noise_level(t_c), k), t_c, "score")))
        < 1e-12 / scale
    )
    assert (
        float(ginzburg_landau(process, 1.01 * t_c, source).r)
        > 0
        > float(ginzburg_landau(process, 0.99 * t_c, source).r)
    )


def test_reference_times_of_the_five_by_five_box():
    assert critical_time(VP(), 25.0) == pytest.approx(math.log(26), rel=1e-13)
    assert round(critical_time(VP(), 25.0), 3) == 3.258
    t = drift_critical_time(VP(), 25.0)
    assert round(t, 3) == 3.912
    assert float(VP().alpha(t)) ** 2 == pytest.approx(math.sqrt(626) - 25, rel=1e-13)
    # there the drift's own balance is r = 1/2, not r = 0
    assert float(ginzburg_landau(VP(), t, BOX).r) == pytest.approx(0.5, rel=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_the_paper_dictionary_is_critical_at_log_of_one_plus_omega_eff(seed):
    dictionary = paper_dictionary(seed)
    zero, k = torch.zeros(1, 1, 5, 5, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)

    def excess(t: float) -> float:
        return float(PatchDenoiser(dictionary).dispersion(zero, VP().noise_level(t), k)) - 1

    t_c = critical_time(VP(), dictionary.omega_eff)
    assert t_c == pytest.approx(math.log1p(dictionary.omega_eff), rel=1e-13)
    assert t_c == pytest.approx(brentq(excess, 1.0, 5.0, xtol=1e-14), abs=1e-10)
    assert t_c == pytest.approx(3.16, abs=0.04)


@pytest.mark.parametrize("convention", ["sde", "ode"])
@processes
def test_drift_critical_times_are_zeros_of_the_uniform_eigenvalue(process, convention):
    omega = 0.4
    t = drift_critical_time(process, omega, convention)
    eigenvalue = process.eigenvalue(omega / process.noise_level(t).square(), t, convention)
    assert abs(float(eigenvalue)) < 1e-12 * float(process.diffusion(t)) ** 2
    if isinstance(process, VE):
        assert t == critical_time(process, omega)


@pytest.mark.parametrize("omega", [0.0, -2.0])
def test_a_mode_that_never_softens_has_no_critical_time(omega):
    assert math.isnan(critical_time(VP(), omega))
    assert math.isnan(drift_critical_time(VP(), omega))
    assert float(mean_field_branch(VP(), 1.0, omega)) == 0


@processes
def test_the_branch_is_stationary_for_the_exact_patch_score(process):
    field = ReceptiveField.box(3)
    times = process.time(torch.tensor([0.3, 1.0, 2.0, 2.9, 2.999999, 3.0 * (1 + 1e-9), 4.0], dtype=torch.float64))
    branch = mean_field_branch(process, times, 9.0)
    assert branch[5:].tolist() == [0.0, 0.0]
    assert bool((branch[:5] > 0).all())
    torch.testing.assert_close(branch[:5], bifurcation.equilibria(process, times, 9.0)[:5, 2], rtol=1e-13, atol=0)
    for t, m in zip(times.tolist(), branch.tolist(), strict=True):
        x = torch.full((1, 1, 3, 3), m, dtype=torch.float64)
        assert (
            float(process.evaluate(TwoStatePatch(field), x, t, "score").abs().max())
            < 1e-12 / float(process.sigma(t)) ** 2
        )


@pytest.mark.parametrize("process", [VP(), VE()])
def test_the_effective_coupling_is_the_exact_response_on_the_branch(process):
    field = ReceptiveField.box(3)
    for t in process.time(torch.tensor([0.5, 2.0, 3.0, 5.0], dtype=torch.float64)):
        state = torch.full(
            (1, 1, 3, 3), float(mean_field_branch(process, t, 9.0) / process.alpha(t)), dtype=torch.float64
        )
        row = TwoStatePatch(field).kernel(state, process.noise_level(t))[0, 0] / process.sigma(t).square()
        assert float(effective_coupling(process, t, 9.0)) == pytest.approx(float(row), rel=1e-12)


def test_the_effective_coupling_vanishes_early_and_is_symmetric_late():
    assert float(effective_coupling(VP(), 1e-3, 25.0)) == 0
    t = torch.tensor([3.3, 6.0], dtype=torch.float64)
    expected = VP().alpha(t) ** 2 / VP().sigma(t) ** 4
    torch.testing.assert_close(effective_coupling(VP(), t, 25.0), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("source", [BOX, ReceptiveField.ball(1.5, 3), ReceptiveField.cross(2, 1), paper_dictionary(1)])
def test_minus_the_gradient_of_the_quadratic_hamiltonian_is_the_linear_score(source):
    process, t, d = VP(), 3.0, field_of(source).dimensions
    shape = [8] * d
    coupling = None if isinstance(source, ReceptiveField) else source.coupling()
    symmetric = coupling is None or bool(torch.allclose(coupling, coupling.flip(0)))
    x = normal(2, 1, *shape).requires_grad_()
    v = x.detach()
    (gradient,) = torch.autograd.grad(quadratic_hamiltonian(x, process, t, source).sum(), x)
    a, c = process.drift(t, "score")
    linear = a * v + c / process.alpha(t) * denoiser_of(source).jvp(torch.zeros_like(v), process.noise_level(t), v)
    if symmetric:
        torch.testing.assert_close(gradient, -linear, rtol=1e-11, atol=1e-12)
    else:
        assert not torch.allclose(gradient, -linear, rtol=1e-3)
    # the energy is that of the linear force in any case
    torch.testing.assert_close(
        quadratic_hamiltonian(v, process, t, source), -0.5 * (v * linear).flatten(1).sum(1), rtol=1e-11, atol=1e-12
    )


def test_the_hamiltonian_keeps_the_precision_of_the_state():
    assert quadratic_hamiltonian(torch.ones(3, 1, 6, 6), VP(), 2.0, BOX).dtype == torch.float32


def test_mean_field_length_is_defined_above_the_critical_time_only():
    t = torch.tensor([2.0, math.log(26), 3.3, 20.0], dtype=torch.float64)
    length = mean_field_length(ginzburg_landau(VP(), t, BOX))
    assert math.isnan(float(length[0]))
    # alpha^2 c / (sigma^2 - alpha^2 |Omega|), with c_Omega = |Omega| = 25
    a = math.exp(-3.3)
    assert float(length[2]) == pytest.approx(math.sqrt(25 * a / (1 - a - 25 * a)), rel=1e-12)
    zero = torch.zeros(1, dtype=torch.float64)
    assert bool(mean_field_length(GinzburgLandau(zero, zero + 1, zero)).isnan().all())
    assert bool(mean_field_length(GinzburgLandau(zero + 1, zero - 1, zero)).isnan().all())


@pytest.mark.parametrize("weight", [0.2, 0.5, 1.0])
def test_rare_uniform_patterns_make_the_transition_discontinuous(weight):
    # uniform patterns of probability w: <cP> = w |Omega|, so that u is proportional to w (3 w - 1)
    coefficients = ginzburg_landau(VE(), 1.0, uniform_among_zero_sums(weight))
    assert float(coefficients.u) == pytest.approx(weight * (3 * weight - 1) / 6 * 4**3, rel=1e-12)


def test_a_dictionary_without_symmetry_is_refused():
    lopsided = PatchDictionary(
        ReceptiveField.cross(1, 1), torch.ones(1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    )
    k = torch.zeros(1, dtype=torch.float64)
    for call in (ginzburg_landau, kappa_tensor, lambda p, t, s: dispersion(p, t, s, k)):
        with refused("source: got a dictionary without Z2 symmetry"):
            call(VP(), 1.0, lopsided)


@pytest.mark.parametrize("call", [critical_time, drift_critical_time, lambda p, w: effective_coupling(p, 1.0, w)])
def test_an_infinite_receptive_field_is_refused(call):
    with refused("omega: got inf"):
        call(VP(), math.inf)


def test_a_field_larger_than_the_lattice_is_refused():
    with refused("receptive_field: spans"):
        quadratic_hamiltonian(torch.ones(1, 1, 4, 4), VP(), 1.0, BOX)
