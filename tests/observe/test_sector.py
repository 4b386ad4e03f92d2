"""The coefficients of a soft sector against closed forms, and dense derivatives in float64."""

import pytest
import torch
from torch import Tensor

from helpers.errors import refused
from helpers.random import normal
from softmode.denoiser import score
from softmode.exact.dictionary import random_dictionary
from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.formulas.landau import dispersion, ginzburg_landau, kappa_tensor
from softmode.lattice import Lattice, ReceptiveField
from softmode.observe.sector import sector, stiffness
from softmode.observe.softest import softest_modes
from softmode.process import VP

PROCESS, T = VP(), 3.0
TIME = torch.tensor(T, dtype=torch.float64)
ALPHA, LEVEL = float(PROCESS.alpha(T)), float(PROCESS.noise_level(T))
WEIGHTS = normal(36, 36) / 6


def uneven(x: Tensor, sigma: Tensor | float) -> Tensor:
    """A smooth denoiser whose score is no gradient."""
    return torch.tanh(x.flatten(1) @ WEIGHTS.T + 0.3).reshape(x.shape) + 0.1 * x


def test_the_two_state_model_has_the_coefficients_of_the_paper() -> None:
    """M, K and U of its softest mode are r, kappa and 6 u of Eqs. 15 to 17, in the process's coordinates."""
    field, zero = ReceptiveField.box(3), torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    denoiser = TwoStatePatch(field)
    modes = softest_modes(denoiser, zero, LEVEL, normal(1, 1, 32, 32), tolerance=1e-9).modes
    found, theory = sector(denoiser, zero, LEVEL, modes), ginzburg_landau(PROCESS, TIME, field)
    assert float(found.mass) / ALPHA**2 == pytest.approx(float(theory.r), rel=1e-6)
    kappa = found.stiffness.value[0, 0, 0] / ALPHA**2
    torch.testing.assert_close(kappa, kappa_tensor(PROCESS, TIME, field), rtol=2e-3, atol=1e-9)
    assert bool(((kappa - kappa_tensor(PROCESS, TIME, field)).abs() <= found.stiffness.error[0, 0, 0] + 1e-8).all())
    assert float(found.quartic) / ALPHA**4 == pytest.approx(6 * float(theory.u), rel=1e-5)
    assert float(found.skew.abs()) < 1e-12
    assert float(found.uneven) < 1e-5


def test_a_lopsided_field_has_a_stiffness_across_its_axes() -> None:
    """Kappa_xy of a receptive field along a diagonal."""
    field = ReceptiveField(((0, 0), (1, 1), (-1, -1), (0, 1), (0, -1)))
    zero = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    found = stiffness(TwoStatePatch(field), zero, LEVEL, torch.full((1, 1, 1, 32, 32), 1 / 32, dtype=torch.float64))
    exact = kappa_tensor(PROCESS, TIME, field)
    assert float(exact[0, 1]) > 0.1 * float(exact[0, 0])
    torch.testing.assert_close(found.value[0, 0, 0] / ALPHA**2, exact, rtol=5e-3, atol=1e-9)


def test_modes_at_a_wave_stiffen_as_the_dispersion_bends_there() -> None:
    """The pair of waves of an Ornstein-Zernike Gaussian: K is half the second derivative of its pull on waves."""
    lattice, sigma = Lattice((24, 24)), 1.3
    k = lattice.wave_vectors()
    spectrum = 2 / (0.4 + (2 - 2 * k.cos()).sum(-1))
    denoiser = GaussianDenoiser(spectrum)
    phase = lattice.phase((3, 0))
    modes = torch.stack([phase.cos(), phase.sin()])[None, :, None] / 12 / 2**0.5
    found = stiffness(denoiser, torch.zeros(1, 1, 24, 24, dtype=torch.float64), sigma, modes)

    def pull(a: Tensor, b: Tensor) -> Tensor:
        return 1 / (2 / (0.4 + 4 - 2 * a.cos() - 2 * b.cos()) + sigma**2)

    at = torch.tensor([3 * lattice.k_min[0], 0.0], dtype=torch.float64)
    bend = torch.autograd.functional.hessian(lambda q: pull(q[0], q[1]), at) / 2
    for a in range(2):
        torch.testing.assert_close(found.value[0, a, a], bend, rtol=0.02, atol=1e-3)
    assert float(found.value[0, 0, 1].abs().max()) < 1e-9


@pytest.mark.parametrize("denoiser", [uneven, PatchDenoiser(random_dictionary(3, 1, ReceptiveField.cross(1)))])
def test_every_tensor_is_that_of_dense_derivatives(denoiser: TwoStatePatch) -> None:
    """At two states with modes and noise levels of their own."""
    x, sigma = normal(2, 1, 6, 6), torch.tensor([0.8, 1.7], dtype=torch.float64)
    modes = torch.linalg.qr(normal(2, 36, 3))[0].mT.reshape(2, 3, 1, 6, 6)
    found = sector(denoiser, x, sigma, modes)
    for i, (state, level) in enumerate(zip(x, sigma, strict=True)):

        def of(z: Tensor, level: Tensor = level) -> Tensor:
            return score(denoiser, z.reshape(1, 1, 6, 6), level).flatten()

        v = modes[i].flatten(1)
        hessian = torch.func.jacrev(of)(state.flatten())
        torch.testing.assert_close(found.mass[i] + found.skew[i], -v @ hessian @ v.T)
        third = torch.func.jacfwd(torch.func.jacfwd(torch.func.jacrev(of)))(state.flatten())
        cubic = torch.einsum("ijkl,ai,bj,ck,dl->abcd", third, v, v, v, v)
        even = sum(cubic.movedim(0, place) for place in range(4)) / 4
        torch.testing.assert_close(found.quartic[i], -36 * even, rtol=1e-5, atol=1e-5 * float(even.abs().max()) * 36)
        torch.testing.assert_close(found.uneven[i], (cubic - even).norm() / cubic.norm(), rtol=1e-4, atol=1e-6)
        position = torch.stack(torch.meshgrid(*[torch.arange(6.0, dtype=torch.float64)] * 2, indexing="ij")).flatten(1)
        slopes = []
        for n in (1, 2):
            wave = n * 2 * torch.pi / 6
            shifted = v * torch.exp(1j * wave * position[1])
            pulled = (shifted.conj() @ (-hessian).to(shifted) @ shifted.T).real
            slopes.append(((pulled + pulled.T) / 2 - found.mass[i]) / wave**2)
        torch.testing.assert_close(found.stiffness.value[i, :, :, 1, 1], (4 * slopes[0] - slopes[1]) / 3)


def test_the_extrapolated_stiffness_is_of_fourth_order() -> None:
    """On twice the lattice its error is a sixteenth."""
    field = ReceptiveField.box(3)
    exact = float(kappa_tensor(PROCESS, TIME, field)[0, 0])
    wrong = []
    for side in (16, 32):
        modes = torch.full((1, 1, 1, side, side), 1 / side, dtype=torch.float64)
        found = stiffness(TwoStatePatch(field), torch.zeros(1, 1, side, side, dtype=torch.float64), LEVEL, modes)
        wrong.append(abs(float(found.value[0, 0, 0, 0, 0]) / ALPHA**2 - exact))
    assert wrong[0] / wrong[1] == pytest.approx(16, rel=0.1)


def test_the_pull_on_a_wave_is_that_of_the_dispersion() -> None:
    """Before it is extrapolated: near is (r(q) - r(0)) / q^2 of Eq. 7, exact in q."""
    field, side = ReceptiveField.box(3), 12
    q = 2 * torch.pi / side
    k = torch.tensor([[0.0, 0.0], [0.0, q], [0.0, 2 * q]], dtype=torch.float64)
    still, one, two = dispersion(PROCESS, TIME, field, k).tolist()
    near, far = (one - still) / q**2, (two - still) / (2 * q) ** 2
    modes = torch.full((1, 1, 1, side, side), 1 / side, dtype=torch.float64)
    found = stiffness(TwoStatePatch(field), torch.zeros(1, 1, side, side, dtype=torch.float64), LEVEL, modes)
    assert float(found.value[0, 0, 0, 1, 1]) / ALPHA**2 == pytest.approx((4 * near - far) / 3)
    assert float(found.error[0, 0, 0, 1, 1]) / ALPHA**2 == pytest.approx(abs(near - far) / 3)


def test_a_lattice_must_have_two_waves() -> None:
    """Sides of 3 have one."""
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    with refused("x: got sides .3, 3.; expected at least 4"):
        stiffness(TwoStatePatch(ReceptiveField.box(3)), x, 1.0, torch.ones(1, 1, 1, 3, 3, dtype=torch.float64) / 3)
