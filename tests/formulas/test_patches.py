"""The density of noisy patches against direct sums, automatic differentiation and sums over sites."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from formulas.test_landau import weighted_dictionary
from helpers.dense import patches
from helpers.errors import refused
from helpers.random import normal
from softmode.exact.dictionary import PatchDictionary, random_dictionary
from softmode.formulas.patches import (
    couplings,
    covariance,
    fourth_cumulant,
    fourth_cumulant_along,
    lattice_hamiltonian,
    local_score,
    log_density,
    patch_hamiltonian,
)
from softmode.lattice import ReceptiveField
from softmode.process import VE, VP

TIME = 1.7
# not Z2 symmetric
ONE_SIGN = PatchDictionary(ReceptiveField.cross(1), normal(3, 5), torch.tensor([0.2, 0.3, 0.5]).double())
CASES = [
    pytest.param(random_dictionary(3, 1, ReceptiveField.cross(1)), VP(), id="random-vp"),
    pytest.param(random_dictionary(5, 0, ReceptiveField.box(3)), VE(), id="random-ve"),
    pytest.param(weighted_dictionary(), VP(), id="weighted-vp"),
]


def moments(process: VP | VE, dictionary: PatchDictionary) -> tuple[Tensor, float, float]:
    """Return the posterior at z = 0, alpha and sigma, by their definitions."""
    alpha, sigma = float(process.alpha(TIME)), float(process.sigma(TIME))
    weights = dictionary.prior * torch.exp(-(alpha**2) * dictionary.patterns.square().sum(1) / (2 * sigma**2))
    return weights / weights.sum(), alpha, sigma


@pytest.mark.parametrize(("dictionary", "process"), CASES)
def test_the_density_is_the_sum_of_normals(dictionary: PatchDictionary, process: VP | VE) -> None:
    """Eq. 24, pattern by pattern; it integrates to 1 over a patch of two sites."""
    z = 2 * normal(6, dictionary.receptive_field.size)
    alpha, sigma = float(process.alpha(TIME)), float(process.sigma(TIME))
    total = sum(
        float(prior) * torch.distributions.Normal(alpha * pattern, sigma).log_prob(z).sum(-1).exp()
        for prior, pattern in zip(dictionary.prior, dictionary.patterns, strict=True)
    )
    torch.testing.assert_close(log_density(z, process, TIME, dictionary).exp(), total)
    two = random_dictionary(2, 0, ReceptiveField(((0,), (1,))))
    grid = torch.linspace(-12, 12, 401, dtype=torch.float64)
    values = log_density(torch.cartesian_prod(grid, grid), process, TIME, two).exp()
    assert float(values.sum() * (grid[1] - grid[0]) ** 2) == pytest.approx(1, abs=1e-9)


def test_a_random_dictionary_has_the_paper_s_cosh_and_sinh() -> None:
    """Eqs. 27 to 29, up to the constant of the density."""
    dictionary, process = random_dictionary(4, 2, ReceptiveField.box(3)), VP()
    z, alpha, variance = normal(5, 9), float(process.alpha(TIME)), float(process.sigma(TIME)) ** 2
    fields = (alpha * z / variance) @ dictionary.patterns[:4].T
    paper = -z.square().sum(1) / (2 * variance) + fields.cosh().mean(1).log()
    constant = log_density(z, process, TIME, dictionary) - paper
    torch.testing.assert_close(constant, constant[0].expand(5))
    pull = (fields.sinh() @ dictionary.patterns[:4]) / fields.cosh().sum(1, keepdim=True)
    expected = -z / variance + alpha / variance * pull
    torch.testing.assert_close(local_score(z, process, TIME, dictionary), expected)


@pytest.mark.parametrize("dictionary", [*(case.values[0] for case in CASES), ONE_SIGN])
def test_the_score_is_the_gradient_of_the_density(dictionary: PatchDictionary) -> None:
    """Every component of Eq. 25, also without symmetry."""
    z = normal(4, dictionary.receptive_field.size).requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(z, VP(), TIME, dictionary).sum(), z)
    torch.testing.assert_close(local_score(z.detach(), VP(), TIME, dictionary), gradient)


@pytest.mark.parametrize(("dictionary", "process"), CASES)
def test_cumulants_are_derivatives_of_the_generating_function(dictionary: PatchDictionary, process: VP | VE) -> None:
    """C and K are the second and fourth derivatives of log E exp(h.p) at h = 0 (Eqs. 30 to 33)."""
    weights, _, _ = moments(process, dictionary)

    def generating(h: Tensor) -> Tensor:
        return torch.logsumexp(dictionary.patterns @ h + weights.log(), 0)

    def derivative(f: Callable[[Tensor], Tensor], order: int) -> Callable[[Tensor], Tensor]:
        return f if order == 0 else derivative(torch.func.jacfwd(f), order - 1)

    zero = torch.zeros(dictionary.receptive_field.size, dtype=torch.float64)
    torch.testing.assert_close(covariance(process, TIME, dictionary), derivative(generating, 2)(zero))
    tensor = fourth_cumulant(process, TIME, dictionary)
    torch.testing.assert_close(tensor, derivative(generating, 4)(zero), atol=1e-9, rtol=1e-9)
    h = normal(3, len(zero))
    along = torch.einsum("uvwq,bu,bv,bw,bq->b", tensor, h, h, h, h)
    torch.testing.assert_close(fourth_cumulant_along(h, process, TIME, dictionary), along)


@pytest.mark.parametrize(("dictionary", "process"), CASES)
def test_density_and_score_follow_their_expansions(dictionary: PatchDictionary, process: VP | VE) -> None:
    """Of order 6 and 5: halved patches leave 1/64 and 1/32 of the error (Eqs. 32 and 33)."""
    _, alpha, sigma = moments(process, dictionary)
    size = dictionary.receptive_field.size
    matrix, tensor = covariance(process, TIME, dictionary), fourth_cumulant(process, TIME, dictionary)
    at_zero = log_density(torch.zeros(size, dtype=torch.float64), process, TIME, dictionary)

    def errors(z: Tensor) -> tuple[Tensor, Tensor]:
        quadratic, quartic = patch_hamiltonian(z, process, TIME, dictionary)
        score = -z / sigma**2 + alpha**2 / sigma**4 * z @ matrix
        score = score + alpha**4 / (6 * sigma**8) * torch.einsum("uvwq,bv,bw,bq->bu", tensor, z, z, z)
        wrong = local_score(z, process, TIME, dictionary) - score
        return log_density(z, process, TIME, dictionary) - at_zero + quadratic + quartic, wrong.norm(dim=1)

    z = 0.1 * sigma**2 / alpha * normal(4, size)
    for whole, half, order in zip(errors(z), errors(z / 2), (6, 5), strict=True):
        orders = torch.log2(whole.abs() / half.abs())
        torch.testing.assert_close(orders, torch.full_like(orders, order), atol=0.3, rtol=0)


@pytest.mark.parametrize(("dictionary", "process"), CASES)
def test_the_lattice_has_the_patches_of_all_sites(dictionary: PatchDictionary, process: VP | VE) -> None:
    """Eqs. 35 and 44 as sums over patches; Eq. 36 with all of the diagonal in its mass."""
    x = normal(2, 1, 6, 7)
    inside = patches(x, dictionary.receptive_field).flatten(2)
    _, alpha, sigma = moments(process, dictionary)
    matrix, tensor = covariance(process, TIME, dictionary), fourth_cumulant(process, TIME, dictionary)
    quadratic, quartic = lattice_hamiltonian(x, process, TIME, dictionary)
    own = x.flatten(1).square().sum(1) / (2 * sigma**2)
    pull = torch.einsum("uv,bus,bvs->b", matrix, inside, inside)
    torch.testing.assert_close(quadratic, own - alpha**2 / (2 * sigma**4) * pull)
    cumulants = torch.einsum("uvwq,bus,bvs,bws,bqs->b", tensor, inside, inside, inside, inside)
    torch.testing.assert_close(quartic, -(alpha**4) / (24 * sigma**8) * cumulants)
    mass, bonds = couplings(process, TIME, dictionary)
    assert float(bonds.diagonal().abs().max()) == 0
    split = mass / 2 * x.flatten(1).square().sum(1) - torch.einsum("uv,bus,bvs->b", bonds, inside, inside) / 2
    torch.testing.assert_close(quadratic, split)


def test_covariances_of_random_dictionaries_have_their_statistics() -> None:
    """Eqs. 38 to 40: over 200 seeds E C = 1, annealed; Var C_uv = 1/M off the diagonal, within 4 standard errors."""
    process, field, count = VP(), ReceptiveField.cross(2), 200
    for patterns in (2, 8):
        found = torch.stack(
            [covariance(process, TIME, random_dictionary(patterns, seed, field)) for seed in range(count)]
        )
        rows, columns = torch.triu_indices(field.size, field.size, 1)
        assert bool((found.diagonal(dim1=1, dim2=2) == 1).all())
        off = found[:, rows, columns]
        assert float(off.mean(0).abs().max()) < 5 / math.sqrt(count * patterns)  # the largest of 36
        # pairs of one dictionary are uncorrelated but not independent: means of dictionaries are
        assert abs(float(off.mean())) < 4 * float(off.mean(1).std()) / math.sqrt(count)
        squares = off.square().mean(1)
        stderr = float(squares.std()) / math.sqrt(count)
        assert abs(float(squares.mean()) - 1 / patterns) < 4 * stderr
        assert stderr < 0.05 / patterns
        bonds = couplings(process, TIME, random_dictionary(patterns, 0, field))[1]
        scale = float(process.alpha(TIME)) ** 2 / float(process.sigma(TIME)) ** 4
        torch.testing.assert_close(bonds[rows, columns], scale * off[0])


def test_what_has_no_symmetric_point_is_refused() -> None:
    """In one line; as is a tensor that would be too large."""
    with refused("dictionary: got one without Z2 symmetry; expected p and -p equally likely"):
        covariance(VP(), torch.tensor(1.0), ONE_SIGN)
    with refused("receptive_field: got 81 sites; expected at most 70 for a tensor of fourth cumulants"):
        fourth_cumulant(VP(), 1.0, random_dictionary(2, 0, ReceptiveField.box(9)))
