"""Dictionaries that vary from site to site: against the uniform one, sums in Python, and dense matrices."""

import math

import pytest
import torch
from torch import Tensor

from helpers.dense import jacobian, patches
from helpers.errors import refused
from helpers.models import LOPSIDED
from helpers.random import normal
from softmode.exact.dictionary import PatchDictionary, random_dictionary
from softmode.exact.patch import PatchDenoiser
from softmode.exact.site_patches import SitePatchDenoiser, random_site_patterns
from softmode.formulas.softest_wave import softest_wave
from softmode.lattice import ReceptiveField

PRIOR = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
FIELDS = [
    pytest.param(ReceptiveField(((0,), (1,), (3,), (-1,))), (7,), id="1d"),
    pytest.param(LOPSIDED, (5, 4), id="2d"),
    pytest.param(ReceptiveField.cross(1, 3), (3, 4, 3), id="3d"),
]


def varied(field: ReceptiveField, shape: tuple[int, ...]) -> SitePatchDenoiser:
    """Return a denoiser with real patterns of its own at every site, of unequal norms."""
    return SitePatchDenoiser(field, normal(math.prod(shape), 3, field.size, seed=4), PRIOR, shape)


@pytest.mark.parametrize(("field", "shape"), FIELDS)
def test_the_same_dictionary_at_all_sites_is_the_uniform_model(field: ReceptiveField, shape: tuple[int, ...]) -> None:
    """Values and responses, at one noise level and at one for each state."""
    patterns = normal(3, field.size, seed=2)
    uniform = PatchDenoiser(PatchDictionary(field, patterns, PRIOR))
    everywhere = SitePatchDenoiser(field, patterns.expand(math.prod(shape), -1, -1), PRIOR, shape)
    x, v = normal(2, 1, *shape), normal(2, 1, *shape, seed=1)
    for sigma in (0.5, torch.tensor([0.7, 2.0], dtype=torch.float64)):
        torch.testing.assert_close(everywhere(x, sigma), uniform(x, sigma), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(everywhere.jvp(x, sigma, v), uniform.jvp(x, sigma, v), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(everywhere.coupling()[1], (PRIOR * patterns[:, field.centre]) @ patterns)


@pytest.mark.parametrize(("field", "shape"), FIELDS)
def test_every_site_has_its_own_posterior_mean(field: ReceptiveField, shape: tuple[int, ...]) -> None:
    """Bayes' rule at every site by sums in Python, and the response by automatic differentiation."""
    denoiser, x, sigma = varied(field, shape), normal(1, 1, *shape), 0.9
    found = denoiser(x, sigma).flatten().tolist()
    for i, y in enumerate(patches(x, field)[0].flatten(1).T.tolist()):
        weights = [
            float(pi) * math.exp(-sum((a - b) ** 2 for a, b in zip(y, p, strict=True)) / (2 * sigma**2))
            for pi, p in zip(PRIOR, denoiser.patterns[i].tolist(), strict=True)
        ]
        mean = sum(w * float(c) for w, c in zip(weights, denoiser.patterns[i, :, field.centre], strict=True))
        assert found[i] == pytest.approx(mean / sum(weights), rel=1e-11)
    v = normal(1, 1, *shape, seed=1)
    dense = jacobian(lambda state: denoiser(state, sigma), x)
    torch.testing.assert_close(denoiser.jvp(x, sigma, v).flatten(), dense @ v.flatten())


def test_the_first_mode_goes_soft_at_the_strength_of_the_couplings() -> None:
    """The dense Jacobian at 0 has a largest real part of 1 there, on lattices for either way to find it."""
    field = ReceptiveField.box(3)
    for shape in ((5, 6), (9, 8)):
        patterns = random_site_patterns(3, 1, field, shape)
        denoiser = SitePatchDenoiser(field, patterns.double(), torch.full((6,), 1 / 6, dtype=torch.float64), shape)
        level = math.sqrt(denoiser.strength())
        dense = jacobian(lambda x: denoiser(x, level), torch.zeros(1, 1, *shape, dtype=torch.float64))  # noqa: B023
        assert float(torch.linalg.eigvals(dense).real.max()) == pytest.approx(1, abs=1e-7)
    uniform = random_dictionary(3, 0, field)
    same = SitePatchDenoiser(field, uniform.patterns.expand(72, -1, -1), uniform.prior, (9, 8))
    assert same.strength() == pytest.approx(softest_wave(uniform, shape=(9, 8)).strength)


def test_random_patterns_of_all_sites_are_fair_independent_signs_with_their_flips() -> None:
    """Means over sites of products of two signs are those of fair coins within 4 standard errors."""
    field = ReceptiveField.cross(1)
    found = random_site_patterns(4, 0, field, (20, 20))
    assert found.shape == (400, 8, 5)
    assert torch.equal(found[:, :4], -found[:, 4:])
    assert torch.equal(found.abs(), torch.ones_like(found))
    plus: Tensor = found[:, :4].flatten(1)
    products = plus.T @ plus / 400 - torch.eye(20)
    assert float(products.abs().max()) < 5 / 20  # the largest of 190, each 1/20
    assert abs(float(plus.mean())) < 4 / math.sqrt(8000)
    assert abs(float((plus[1:] * plus[:-1]).mean())) < 4 / math.sqrt(7980)


def test_bonds_of_sites_are_not_symmetric() -> None:
    """What i reads of i + u and what i + u reads of i are uncorrelated, within 4 standard errors."""
    field, shape, patterns = ReceptiveField.box(3), (30, 30), 2
    prior = torch.full((2 * patterns,), 1 / (2 * patterns), dtype=torch.float64)
    denoiser = SitePatchDenoiser(field, random_site_patterns(patterns, 0, field, shape).double(), prior, shape)
    bonds = denoiser.coupling()
    back = torch.stack([bonds[denoiser.neighbours[:, u], field.size - 1 - u] for u in range(field.size)], 1)
    # u and -u share their bonds, so that half of the offsets count
    products = (bonds * back)[:, : field.centre]
    assert float(bonds[:, : field.centre].square().mean()) == pytest.approx(1 / patterns, rel=0.1)
    assert abs(float(products.mean())) < 4 / patterns / math.sqrt(products.numel())


def test_patterns_that_do_not_fit_are_refused() -> None:
    """By their shape, and a receptive field by the lattice."""
    field = ReceptiveField.box(3)
    with refused(r"patterns: got shape \(20, 3, 9\); expected \(25, 3, 9\)"):
        SitePatchDenoiser(field, normal(20, 3, 9), PRIOR, (5, 5))
    with refused("receptive_field: spans"):
        SitePatchDenoiser(field, normal(10, 3, 9), PRIOR, (2, 5))
