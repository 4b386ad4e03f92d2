"""Every observable of the linear response on every exact model: closed form, differences and forward-mode AD agree."""

import itertools
import math

import pytest
import torch

from helpers.models import LOPSIDED, PROCESSES, probabilities, real_dictionary, skewed_spectrum
from helpers.random import normal
from softmode.critical import fit_dispersion
from softmode.denoiser import score
from softmode.exact.dictionary import paper_dictionary
from softmode.exact.empirical import EmpiricalDenoiser, TwoPrototypes
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import PatchDenoiser, TwoStatePatch, full_dispersion
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.gains import difference_gains, exact_gains, jvp_gains
from softmode.process import VP

TRAJECTORIES = 2


def patch_model(field, *weights):
    """Return a patch model of real patterns."""
    return PatchDenoiser(real_dictionary(field, *weights))


MODELS = {
    "empirical-1d": ((1, 9), lambda: EmpiricalDenoiser(normal(5, 1, 9))),
    "empirical-2d-3-channels": ((3, 5, 6), lambda: EmpiricalDenoiser(normal(4, 3, 5, 6), probabilities(1, 2, 3, 0))),
    "empirical-3d": ((1, 3, 4, 5), lambda: EmpiricalDenoiser(normal(4, 1, 3, 4, 5))),
    "prototypes-1d": ((1, 8), lambda: TwoPrototypes(0.5 * normal(1, 8))),
    "prototypes-2d-2-channels": ((2, 5, 4), lambda: TwoPrototypes(0.5 * normal(2, 5, 4))),
    "prototypes-3d": ((1, 3, 4, 3), lambda: TwoPrototypes(0.5 * normal(1, 3, 4, 3))),
    "gaussian-1d": ((1, 9), lambda: GaussianDenoiser(skewed_spectrum(9))),
    "gaussian-2d-2-channels": ((2, 6, 5), lambda: GaussianDenoiser(skewed_spectrum(6, 5), normal(2, 1, 1))),
    "gaussian-3d": ((1, 3, 4, 5), lambda: GaussianDenoiser(skewed_spectrum(3, 4, 5))),
    "two-state-1d": ((1, 8), lambda: TwoStatePatch(ReceptiveField.box(5, 1))),
    "two-state-2d": ((1, 7, 6), lambda: TwoStatePatch(ReceptiveField.box(5, 2))),
    "two-state-2d-lopsided": ((1, 6, 5), lambda: TwoStatePatch(LOPSIDED)),
    "two-state-3d": ((1, 3, 4, 5), lambda: TwoStatePatch(ReceptiveField.cross(1, 3))),
    "patch-paper": ((1, 7, 6), lambda: PatchDenoiser(paper_dictionary(1))),
    "patch-1d": ((1, 9), lambda: patch_model(ReceptiveField(((0,), (1,), (3,))), 1, 2, 3)),
    "patch-2d": ((1, 7, 6), lambda: patch_model(ReceptiveField.ball(2.0, 2), 1, 5, 2)),
    "patch-2d-lopsided": ((1, 6, 5), lambda: patch_model(LOPSIDED, 1, 2, 3, 4)),
    "patch-3d": ((1, 3, 4, 5), lambda: patch_model(ReceptiveField.box(3, 3), 1, 2, 0)),
}
SIGMAS = (0.7, 2.0, 10.0)


@pytest.fixture(params=MODELS, scope="module")
def model(request):
    shape, build = MODELS[request.param]
    return build(), shape


def states(shape, sigma, seed=1):
    """Return states that are noisy enough for the posterior to be undecided."""
    return 0.4 * sigma * normal(TRAJECTORIES, *shape, seed=seed)


def top_shell(shape):
    return min(2, (min(shape[1:]) - 1) // 2)


def fine_step(x, sigma):
    """Return the cubic-root step: rounding and truncation both vanish beside 1e-6, the posterior's scale given."""
    return torch.finfo(torch.float64).eps ** (1 / 3) * sigma**2 / x[0].numel()


def assert_same_gains(found, expected, relative):
    """Compare to a share of the largest gain of each state."""
    scale = expected.abs().amax((1, 2), keepdim=True)
    assert found.shape == expected.shape
    assert ((found - expected).abs() <= relative * scale).all(), ((found - expected) / scale).abs().max()


@pytest.mark.parametrize("sigma", SIGMAS)
def test_gains_agree_three_ways(model, sigma):
    """Closed form, central difference (1e-6) and forward-mode AD (1e-10) give the same mode gains."""
    denoiser, shape = model
    x, shells = states(shape, sigma), top_shell(shape)
    exact = exact_gains(denoiser, x, sigma, shells)
    assert exact.shape == (TRAJECTORIES, shells + 1, len(shape) - 1)
    assert exact.abs().max() > 1e-3
    assert_same_gains(jvp_gains(denoiser, x, sigma, shells), exact, 1e-10)
    assert_same_gains(difference_gains(denoiser, x, sigma, shells, fine_step(x, sigma)), exact, 1e-6)


def test_gains_agree_with_one_noise_level_per_state(model):
    """A batch with mixed noise levels, and steps, gives each state the gains it has alone."""
    denoiser, shape = model
    sigma, shells = torch.tensor([0.8, 3.0], dtype=torch.float64), top_shell(shape)
    x = states(shape, 2.0)
    steps = fine_step(x, sigma)
    together = (
        exact_gains(denoiser, x, sigma, shells),
        jvp_gains(denoiser, x, sigma, shells),
        difference_gains(denoiser, x, sigma, shells, steps),
        difference_gains(denoiser, x, sigma, shells),
    )
    for i, level in enumerate(sigma.tolist()):
        alone = x[i : i + 1]
        expected = exact_gains(denoiser, alone, level, shells)
        for gains, tolerance in zip(together, (1e-12, 1e-10, 1e-6, 1e-3), strict=True):
            assert_same_gains(gains[i : i + 1], expected, tolerance)


def literal_eigenvalues(drift, x, shells):
    """Return v.[b(x + h v) - b(x - h v)] / (2 h v.v) of Eq. 64, Rayleigh-normalised, cosine and sine averaged."""
    space, h = x.shape[2:], 1e-5
    out = torch.zeros(x.shape[0], shells + 1, len(space), dtype=torch.float64)
    for n, axis, wave in itertools.product(range(shells + 1), range(len(space)), (torch.cos, torch.sin)):
        site = torch.arange(space[axis], dtype=torch.float64)
        along = wave(2 * math.pi * n / space[axis] * site) if n else torch.ones_like(site)
        v = along.reshape([-1 if a == axis else 1 for a in range(len(space))]).expand(x.shape[1:])
        response = drift(x + h * v) - drift(x - h * v)
        out[:, n, axis] += (v * response).flatten(1).sum(1) / (2 * h * v.square().sum()) / 2
    return out


@pytest.mark.parametrize("name", PROCESSES)
def test_eigenvalues_are_differences_of_the_drift(model, name):
    """process.eigenvalue(gain) is Eq. 64 on the drift itself, in VP and VE, for the score, the SDE and the ODE."""
    (denoiser, shape), process, t = model, PROCESSES[name], 0.8
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    beta = float(process.diffusion(t)) ** 2
    x, shells = states(shape, sigma), top_shell(shape)
    gains = exact_gains(denoiser, x / alpha, sigma / alpha, shells)

    def grad_log_density(x):
        return score(denoiser, x / alpha, sigma / alpha) / alpha

    pull = 0.5 * beta if isinstance(process, VP) else 0.0
    drifts = {
        "score": grad_log_density,
        "sde": lambda x: -pull * x - beta * grad_log_density(x),  # Eq. 58
        "ode": lambda x: -pull * x - 0.5 * beta * grad_log_density(x),
    }
    for convention, drift in drifts.items():
        found = process.eigenvalue(gains, t, convention)
        assert_same_gains(found, literal_eigenvalues(drift, x, shells), 1e-6)


def test_closed_forms_in_float32_keep_their_digits(model):
    """In float32 the closed form is still within 1e-4 of float64: nothing cancels."""
    denoiser, shape = model
    for sigma in SIGMAS:
        x, shells = states(shape, sigma), top_shell(shape)
        expected = exact_gains(denoiser, x, sigma, shells)
        assert_same_gains(exact_gains(denoiser, x.float(), sigma, shells).double(), expected, 1e-4)


def test_length_of_the_two_state_model_at_the_symmetric_point():
    """At x = 0 the fit of Eq. 69 to 1 - G is the one to the closed form Omega(k) / sigma^2, k -> 0: c_Omega / r."""
    field, L, sigma = ReceptiveField.box(5, 2), 400, 7.0
    lattice = Lattice((L, L))
    x = torch.zeros(1, 1, L, L, dtype=torch.float64)
    gains = exact_gains(TwoStatePatch(field), x, sigma, 3)
    k = lattice.wavenumbers(3)
    expected = 25 / (sigma**2 - 25)  # xi^2 = (c_Omega / sigma^2) / (1 - |Omega| / sigma^2)
    for intercept in ("constant mode", "free"):
        length = fit_dispersion((1 - gains).numpy(), k.numpy(), intercept).length
        assert length[0] ** 2 == pytest.approx(expected, rel=2e-3)
    full = full_dispersion(TwoStatePatch(field), x[..., :8, :8], sigma)
    torch.testing.assert_close(full[:, 0, 0], gains[:, 0, 0])
