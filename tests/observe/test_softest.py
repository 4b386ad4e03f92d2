"""Softest modes against dense Jacobians and exact mixtures."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from softmode.exact.gaussian import GaussianDenoiser
from softmode.exact.mixture import GaussianMixture
from softmode.formulas.guided_flow import critical_level
from softmode.observe.lanczos import Products, lanczos
from softmode.observe.softest import gain_along, participation, softest_modes, star

X = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
START = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def mixing(x: Tensor, sigma: Tensor | float) -> Tensor:
    """A smooth denoiser whose Jacobian is not symmetric."""
    weights = torch.randn(16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(x) / 4
    return torch.tanh(x.flatten(1) @ weights.T).reshape(x.shape) + 0.1 * x


def multiplied(exact: Tensor) -> Callable[[Tensor], Products]:
    """Products with one diagonal matrix, whichever of a batch are left."""
    return lambda left: lambda v: (exact * v, exact * v)


def test_the_softest_modes_are_those_of_the_dense_jacobian() -> None:
    """Eigenvalues, modes up to their sign, residuals and the antisymmetric part, state by state."""
    found = softest_modes(mixing, X, 1.0, START, count=3, most=16, tolerance=0.0)
    for i, state in enumerate(X):
        dense = torch.func.jacrev(lambda z: mixing(z[None], 1.0)[0])(state).reshape(16, 16)
        values, vectors = torch.linalg.eigh((dense + dense.T) / 2)
        torch.testing.assert_close(found.values[i], values[-3:].flip(0))
        overlap = (found.modes[i].flatten(1) * vectors[:, -3:].T.flip(0)).sum(1).abs()
        torch.testing.assert_close(overlap, torch.ones(3).double())
        wrong = torch.linalg.vector_norm((dense - dense.T) / 2 @ vectors[:, -1])
        torch.testing.assert_close(found.antisymmetric[i], wrong)


def test_each_eigenvalue_comes_as_often_as_it_occurs() -> None:
    """Four waves of one star at x = 0, where one search meets one of them; two pairs of others are left out."""
    spectrum = torch.linspace(0.5, 1.5, 144, dtype=torch.float64).reshape(12, 12)
    spectrum = spectrum + spectrum.flip(0, 1).roll((1, 1), (0, 1))
    for place in ((0, 2), (0, -2), (2, 0), (-2, 0)):
        spectrum[place] = 9.0
    for place in ((1, 1), (-1, -1)):
        spectrum[place] = 8.0
    denoiser, zero = GaussianDenoiser(spectrum), torch.zeros(2, 1, 12, 12, dtype=torch.float64)
    start = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = softest_modes(denoiser, zero, 1.0, start, 6, 60, 1e-8, multiple=True)
    exact = torch.tensor([0.9] * 4 + [8 / 9] * 2, dtype=torch.float64).expand(2, 6)
    torch.testing.assert_close(found.values, exact, rtol=0, atol=1e-7)
    flat = found.modes.flatten(2)
    torch.testing.assert_close(flat @ flat.mT, torch.eye(6).double().expand(2, 6, 6), rtol=0, atol=1e-7)
    waves, share = star(found.modes)
    assert waves.tolist() == [[[0, 2]] * 4 + [[1, 1]] * 2] * 2
    torch.testing.assert_close(share, torch.ones(2, 6).double(), rtol=0, atol=1e-6)
    alone = softest_modes(denoiser, zero, 1.0, start, 6, 60, 1e-8)
    assert float(alone.values[0, 1]) < 0.895


def test_a_residual_bounds_the_error_of_an_eigenvalue() -> None:
    """However few products: the nearest eigenvalue is not farther than the residual says."""
    exact = torch.linspace(-1, 1, 40, dtype=torch.float64) ** 3
    start = torch.randn(2, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for most in (2, 5, 9):
        found = lanczos(multiplied(exact), start, 2, most, 0.0)
        assert found.steps.tolist() == [most, most]
        nearest = (found.values[..., None] - exact).abs().amin(-1)
        assert bool((nearest <= found.residuals + 1e-12).all())
    assert float(found.residuals[:, 0].max()) < 0.1


def test_a_good_first_guess_takes_few_products() -> None:
    """The mode itself takes one; closed directions go on to what they lack."""
    exact = torch.tensor([3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    first = lanczos(multiplied(exact), torch.eye(4, dtype=torch.float64)[:1], 1, 4, 1e-6)
    assert (first.steps.tolist(), float(first.values[0, 0])) == ([1], 3.0)
    every = lanczos(multiplied(exact), torch.eye(4, dtype=torch.float64)[2:3], 4, 4, 0.0)
    torch.testing.assert_close(every.values[0], exact)
    nothing = lanczos(multiplied(0 * exact), torch.zeros(1, 4).double(), 2, 4, 1e-6)
    torch.testing.assert_close(nothing.values[0], torch.zeros(2).double())


@pytest.mark.parametrize("easy", [1, 4])
def test_a_state_has_the_modes_that_it_has_alone(easy: int) -> None:
    """Each as good as it is alone, in as many products, though few or many of the batch are done before others."""
    start = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    x, levels = 2 * start, torch.linspace(1.1, 3, 8, dtype=torch.float64)
    levels[:easy] = 0.1

    def denoiser(z: Tensor, sigma: Tensor | float) -> Tensor:
        """The Jacobian is a multiple of one at a low level, and a full matrix at a high one."""
        noise = torch.as_tensor(sigma, dtype=z.dtype).reshape(-1, 1, 1, 1)
        return 0.5 * z + torch.where(noise > 1, noise, 1e-9) * mixing(z, 1.0)

    found = softest_modes(denoiser, x, levels, start, 2)
    assert found.steps.min() < found.steps.max()
    for i in range(8):
        alone = softest_modes(denoiser, x[i : i + 1], levels[i], start[i : i + 1], 2)
        assert found.steps[i] == alone.steps[0]
        for one, other in zip(found[:4], alone[:4], strict=True):
            torch.testing.assert_close(one[i], other[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("wave", ["constant", "diagonal", "random"])
def test_two_classes_soften_at_their_level_in_any_mode(wave: str, dtype: torch.dtype) -> None:
    """Halfway between the classes the top eigenvalue passes 1 at sqrt(|mu|^2 - s^2), along mu."""
    site = torch.arange(4.0)
    shape = {
        "constant": torch.ones(4, 4),
        "diagonal": torch.cos(math.pi / 2 * (site[:, None] + site)),
        "random": torch.randn(4, 4, generator=torch.Generator().manual_seed(4)),
    }[wave]
    mu = (3 * shape / shape.norm())[None].to(dtype)
    denoiser = GaussianMixture(torch.stack([mu, -mu]), spread=0.5).denoiser()
    level = critical_level(3.0, 0.5)
    x = torch.zeros(1, 1, 4, 4, dtype=dtype)
    for sigma, above in ((0.98 * level, True), (1.02 * level, False)):
        found = softest_modes(denoiser, x, sigma, START[:1].to(dtype), tolerance=1e-5)
        assert (float(found.values[0, 0]) > 1) == above
        exact = (0.25 + 9 * sigma**2 / (0.25 + sigma**2)) / (0.25 + sigma**2)
        assert float(found.values[0, 0]) == pytest.approx(exact, rel=1e-4)
        assert float((found.modes[0, 0] * mu).sum().abs()) / 3 == pytest.approx(1, abs=1e-4)
        assert float(found.antisymmetric[0]) < 1e-4


def test_no_gaussian_softens() -> None:
    """Its eigenvalues are S/(S + sigma^2) at every state; near classes have no level at all."""
    spectrum = torch.rand(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    spectrum = spectrum + torch.roll(spectrum.flip(0, 1), (1, 1), (0, 1))
    gaussian = GaussianDenoiser(spectrum)
    for sigma in (0.1, 1.0, 10.0):
        found = softest_modes(gaussian, X, sigma, START, most=16, tolerance=0.0)
        torch.testing.assert_close(found.values[:, 0], (spectrum / (spectrum + sigma**2)).max().expand(3))
    assert math.isnan(critical_level(0.4, 0.5))


def test_the_gain_along_one_direction_is_that_of_the_dense_jacobian() -> None:
    """v.(dD/dx)v of a linear denoiser, the same at every state."""
    matrix = torch.randn(16, 16, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    direction = START[0] / START[0].norm()
    found = gain_along(lambda x, sigma: (x.flatten(1) @ matrix.T).reshape(x.shape), X, 1.0, direction)
    v = direction.flatten()
    torch.testing.assert_close(found, (v @ matrix @ v).expand(3))


def test_the_extent_of_a_mode_in_sites() -> None:
    """One site, all of them, half of them in one of two channels, and a wave's two thirds."""
    one = torch.zeros(1, 4, 4)
    one[0, 1, 2] = -2
    half = torch.zeros(1, 4, 4)
    half[0, :2] = 0.3
    wave = torch.cos(2 * math.pi * torch.arange(8) / 8).expand(1, 8, 8)
    for mode, sites in ((one, 1), (torch.ones(1, 4, 4), 16), (half, 8), (wave, 64 * 2 / 3)):
        assert float(participation(mode[None, None])) == pytest.approx(sites, rel=1e-6)
    assert float(participation(torch.cat([half, 0 * half])[None, None])) == pytest.approx(8, rel=1e-6)
