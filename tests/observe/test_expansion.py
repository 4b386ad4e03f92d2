"""The expansion of a score against dense derivatives, the closed forms of patch models, and its order."""

import pytest
import torch
from torch import Tensor

from helpers.random import normal
from softmode.denoiser import score
from softmode.exact.dictionary import random_dictionary
from softmode.exact.mixture import GaussianMixture
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.formulas.landau import ginzburg_landau
from softmode.lattice import ReceptiveField
from softmode.networks.load import load_model
from softmode.observe.expansion import expansion
from softmode.process import VP

STATES, WEIGHTS = normal(2, 1, 3, 3), normal(9, 9) / 3
DIRECTIONS = torch.linalg.qr(normal(9, 9))[0][:3].reshape(1, 3, 1, 3, 3)


def uneven(x: Tensor, sigma: Tensor | float) -> Tensor:
    """A smooth denoiser whose score is no gradient."""
    return torch.tanh(x.flatten(1) @ WEIGHTS.T + 0.3).reshape(x.shape) + 0.1 * x


@pytest.mark.parametrize("denoiser", [uneven, PatchDenoiser(random_dictionary(3, 1, ReceptiveField.cross(1)))])
def test_both_tensors_are_those_of_dense_derivatives(denoiser: TwoStatePatch) -> None:
    """At each state, with noise levels of their own, from the whole third derivative in float64."""
    sigma = torch.tensor([0.8, 1.7], dtype=torch.float64)
    found = expansion(denoiser, STATES, sigma, DIRECTIONS)
    v = DIRECTIONS[0].flatten(1)
    for i, (state, level) in enumerate(zip(STATES, sigma, strict=True)):

        def of(z: Tensor, level: Tensor = level) -> Tensor:
            return score(denoiser, z.reshape(1, 1, 3, 3), level).flatten()

        first = torch.func.jacrev(of)(state.flatten())
        third = torch.func.jacfwd(torch.func.jacfwd(torch.func.jacrev(of)))(state.flatten())
        torch.testing.assert_close(found.linear[i], v @ first @ v.T)
        exact = torch.einsum("ijkl,ai,bj,ck,dl->abcd", third, v, v, v, v)
        wrong = (found.cubic[i] - exact).abs()
        assert bool((wrong <= found.error[i] + 1e-8).all())
        assert float(wrong.max()) < 1e-6 * float(exact.abs().max())


def test_a_uniform_field_has_the_coefficients_of_the_landau_theory() -> None:
    """H and T along the constant mode are -r and -6 u/N of Eqs. 15 and 17, in the process's coordinates."""
    process, t, field = VP(), 2.0, ReceptiveField.box(3)
    constant = torch.full((1, 1, 5, 5), 1 / 5, dtype=torch.float64)
    alpha = float(process.alpha(t))
    found = expansion(TwoStatePatch(field), 0 * constant, float(process.noise_level(t)), constant[None])
    theory = ginzburg_landau(process, torch.tensor(t, dtype=torch.float64), field)
    assert float(found.linear) / alpha**2 == pytest.approx(-float(theory.r))
    assert float(found.cubic) / alpha**4 == pytest.approx(-6 * float(theory.u) / 25)


def test_an_exact_score_has_symmetric_tensors() -> None:
    """Its own symmetric part is all of it; that of the uneven one is not."""
    mixture = GaussianMixture(normal(3, 1, 3, 3), spread=0.7).denoiser()
    found = expansion(mixture, STATES, 1.2, DIRECTIONS)
    torch.testing.assert_close(found.linear, found.linear.transpose(1, 2))
    torch.testing.assert_close(found.cubic, found.symmetric_cubic, rtol=1e-5, atol=1e-6)
    other = expansion(uneven, STATES, 1.2, DIRECTIONS)
    part = other.symmetric_cubic
    torch.testing.assert_close(part, part.transpose(1, 4))
    assert float((other.cubic - part).abs().max()) > 1e-3


def test_a_score_without_even_terms_follows_its_expansion_to_fifth_order() -> None:
    """Around 0, where the score is odd: halved pushes leave 1/32 of the error."""
    denoiser, sigma = PatchDenoiser(random_dictionary(3, 1, ReceptiveField.cross(1))), 1.5
    zero = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    basis = torch.eye(9, dtype=torch.float64).reshape(1, 9, 1, 3, 3)
    found = expansion(denoiser, zero, sigma, basis)

    def wrong(x: Tensor) -> float:
        y = x.flatten()
        cubic = torch.einsum("abcd,b,c,d->a", found.cubic[0], y, y, y)
        return float((score(denoiser, x, sigma).flatten() - found.linear[0] @ y - cubic / 6).norm())

    x = 0.1 * normal(1, 1, 3, 3)
    assert wrong(x) / wrong(x / 2) == pytest.approx(32, rel=0.1)


def test_the_error_falls_with_the_fourth_power_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a third derivative in closed form; what is stated falls with the second and stays above it."""
    v, x = torch.ones(1, 1, 3, 3, dtype=torch.float64) / 3, torch.full((1, 1, 3, 3), 0.4, dtype=torch.float64)

    def denoiser(z: Tensor, _: Tensor | float) -> Tensor:
        return torch.sin(z)

    exact = -float(torch.cos(x).mean()) / 9
    wrong, said = [], []
    for step in (160.0, 80.0):  # at such steps rounding is nothing
        monkeypatch.setattr("softmode.observe.expansion.STEP", step)
        found = expansion(denoiser, x, 1.0, v[None])
        wrong.append(abs(float(found.cubic) - exact))
        said.append(float(found.error))
    assert wrong[0] / wrong[1] == pytest.approx(16, rel=0.05)
    assert said[0] / said[1] == pytest.approx(4, rel=0.05)
    assert said[1] > wrong[1]


def test_a_trained_network_has_one_too() -> None:
    """In single precision as in double, to its stated error."""
    found = []
    for dtype in (torch.float32, torch.float64):
        model = load_model("fashion-mnist-binary", dtype=dtype)
        v = torch.stack([torch.ones(1, 28, 28), torch.linspace(-1, 1, 28).expand(1, 28, 28)]).to(dtype)
        v = v / v.flatten(1).norm(dim=1)[:, None, None, None]
        x = 5 * normal(2, 1, 28, 28).to(dtype)
        found.append(expansion(model.denoiser(None), x, 5.0, v[None]))
    single, double = found
    torch.testing.assert_close(single.linear.double(), double.linear, rtol=1e-3, atol=1e-5)
    scale = float(double.cubic.abs().max())
    wrong = (single.cubic - double.cubic).abs()
    assert bool((wrong < 4 * single.error + 0.01 * scale).all())
    assert float(wrong.median()) < 0.01 * scale
    assert float(double.error.max()) < 1e-3 * scale
