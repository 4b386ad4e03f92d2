"""The split of a Jacobian, its far modes and their edges, on dense matrices that are made of known parts."""

import math

import pytest
import torch
from torch import Tensor, nn

from helpers import dense
from helpers.models import LinearDenoiser, ornstein_zernike
from helpers.random import generator, normal
from softmode.exact.gaussian import GaussianDenoiser
from softmode.observe.nonlocality import (
    coherence,
    dense_jacobian,
    displacements,
    distances,
    far_modes,
    far_spectrum,
    power_by_distance,
    shares,
    split,
    symmetrised,
    uniform_coupling,
)

SPACES = [(2, 7), (1, 4, 6), (2, 4, 4), (1, 3, 2, 4)]
spaces = pytest.mark.parametrize("shape", SPACES, ids=map(str, SPACES))


def offset(space: tuple[int, ...], i: tuple[int, ...], j: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((b - a) % n for a, b, n in zip(i, j, space, strict=True))


def length(space: tuple[int, ...], r: tuple[int, ...]) -> float:
    return math.sqrt(sum(min(c, n - c) ** 2 for c, n in zip(r, space, strict=True)))


@spaces
def test_the_split_by_loops_over_sites(shape: tuple[int, ...]) -> None:
    """Every part entry by entry, on lattices with sides of their own and several channels."""
    channels, *space = shape
    space, radius = tuple(space), 1.5
    at, matrix = dense.sites(space), normal(math.prod(shape), math.prod(shape), seed=1)
    sites, found = len(at), split(matrix, shape, 1.5)
    for a in range(channels):
        for b in range(channels):
            for i in at[:3]:
                for j in at:
                    r = offset(space, i, j)
                    pairs = [(at.index(k), at.index(tuple((c + d) % n for c, d, n in zip(k, r, space, strict=True))))
                             for k in at]  # fmt: skip
                    mean = sum(float(matrix[a * sites + p, b * sites + q]) for p, q in pairs) / sites
                    row, column = a * sites + at.index(i), b * sites + at.index(j)
                    rest, near = float(matrix[row, column]) - mean, length(space, r) <= radius
                    assert float(found.average[row, column]) == pytest.approx(mean, abs=1e-12)
                    assert float(found.near[row, column]) == pytest.approx(rest if near else 0, abs=1e-12)
                    assert float(found.far[row, column]) == pytest.approx(0 if near else rest, abs=1e-12)


@spaces
def test_parts_add_up_and_are_orthogonal(shape: tuple[int, ...]) -> None:
    """To the matrix, in power too; what moves with the site is all average, and power by distance is complete."""
    matrix = normal(math.prod(shape), math.prod(shape), seed=2)
    parts = split(matrix, shape, 1.5)
    torch.testing.assert_close(sum(parts), matrix)
    assert sum(float(part.square().sum()) for part in parts) == pytest.approx(float(matrix.square().sum()))
    again = split(parts.average, shape, 1.5)
    torch.testing.assert_close(again.average, parts.average)
    assert again.near.abs().max() < 1e-14 > again.far.abs().max()
    power = power_by_distance(matrix, shape)
    assert float(power.sum()) == pytest.approx(float(matrix.square().sum()))
    one = power_by_distance(parts.far, shape)
    assert one[:2].sum() == 0
    assert len(power) == round(float(distances(shape[1:]).max())) + 1


def test_displacements_and_distances_are_the_lattice_s() -> None:
    """From a site to itself none; to the other side of a periodic chain one."""
    assert displacements((4,))[1].tolist() == [3, 0, 1, 2]
    assert distances((4,))[1].tolist() == [1, 0, 1, 2]


def test_the_dense_jacobian_is_the_matrix_row_by_row() -> None:
    """Of a linear denoiser its matrix and not the transposed one; of a bent one that of automatic differentiation."""
    matrix = normal(100, 100, seed=3)
    x = normal(1, 4, 5, 5, seed=4)
    torch.testing.assert_close(dense_jacobian(LinearDenoiser(matrix), x, 1.0), matrix)
    bent = LinearDenoiser(matrix)
    torch.testing.assert_close(
        dense_jacobian(lambda z, sigma: torch.tanh(bent(z, sigma)), x, 1.0),
        dense.jacobian(lambda z: bent(z, 1.0).tanh(), x),
    )


def local_part(side: int) -> Tensor:
    """Return a coupling of neighbours with strengths of their own at every site, and a wave's response."""
    shape = (1, side, side)
    near = distances(shape[1:]) <= 1
    smooth = torch.rand(side**2, 1, generator=generator(5), dtype=torch.float64)
    wave = GaussianDenoiser(ornstein_zernike(side, side))
    average = dense_jacobian(wave, torch.zeros(1, *shape, dtype=torch.float64), 1.0)
    return near * (smooth + smooth.T) / 4 + average


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("noise", [0.001, 0.05])
def test_a_planted_coupling_of_rank_two_is_found_with_its_vectors_and_signs(
    signs: tuple[int, int], noise: float
) -> None:
    """And with its strengths, though a fifth of it lies within the radius; nothing else is beyond the edge."""
    shape, radius = (1, 20, 20), 5.0
    u, v = torch.linalg.qr(normal(400, 2, seed=6)).Q.T
    gammas = 0.9 * signs[0], 0.5 * signs[1]
    planted = local_part(20) + gammas[0] * torch.outer(u, u) + gammas[1] * torch.outer(v, v)
    far = split(planted + normal(400, 400, seed=8) * noise / 20, shape, radius).far
    spectrum = far_spectrum(far, 8, generator())
    found = far_modes(far, shape, radius, float(spectrum.edge), spectrum)
    assert len(found.values) == 2
    for gamma, value, planted_one, vector in zip(gammas, found.values, (u, v), found.vectors, strict=True):
        assert float(value) == pytest.approx(gamma, rel=0.03)
        assert abs(float(vector @ planted_one)) > 0.99


def test_the_hole_within_the_radius_makes_no_modes_of_its_own() -> None:
    """Of one coupling alone the masked matrix has several eigenvalues beyond the edge; one mode is found, exactly."""
    shape, radius = (1, 16, 16), 5.0
    u = torch.linalg.qr(normal(256, 1, seed=6)).Q[:, 0]
    far = torch.outer(u, u) * (distances(shape[1:]) > radius)
    spectrum = far_spectrum(far, 8, generator())
    assert int((torch.linalg.eigvalsh(far).abs() > spectrum.edge).sum()) > 1
    found = far_modes(far, shape, radius, float(spectrum.edge), spectrum)
    assert found.values.tolist() == pytest.approx([1], rel=0.01)
    assert abs(float(found.vectors[0] @ u)) > 0.999


def test_independent_entries_have_no_mode_beyond_their_edge() -> None:
    """In 40 matrices of independent far entries of unequal sizes the largest eigenvalue is the edge to 10 %."""
    side = 12
    size = torch.rand(side**2, side**2, generator=generator(9), dtype=torch.float64)
    over = []
    for seed in range(40):
        far = split(size * normal(side**2, side**2, seed=10 + seed), (1, side, side), 3.0).far
        found = far_spectrum(far, 1, generator(seed))
        over.append(float(found.strongest / found.edge))
        assert len(far_modes(far, (1, side, side), 3.0, 1.1 * float(found.edge), found).values) == 0
    assert max(over) < 1.1
    assert min(over) > 0.85


def test_the_effective_rank_counts_equal_modes() -> None:
    """Of p equal singular values p, of either sign; of unequal ones the participation of their squares."""
    basis = torch.linalg.qr(normal(30, 30, seed=7)).Q
    for values, rank in (([1.0, -1.0, 1.0], 3.0), ([2.0, 1.0], 25 / 17)):
        strengths = torch.zeros(30, dtype=torch.float64)
        strengths[: len(values)] = torch.tensor(values, dtype=torch.float64)
        found = far_spectrum(basis * strengths @ basis.T, 2, generator())
        assert float(found.rank) == pytest.approx(rank)
        assert float(found.strongest) == pytest.approx(max(values))


def test_a_stationary_gaussian_has_no_rest_at_all() -> None:
    """A power law's linear denoiser reaches everywhere, with a low rank, and all of it moves with the site."""
    side, shape = 16, (1, 16, 16)
    field = GaussianDenoiser(ornstein_zernike(side, side, mass=0.01))
    matrix = dense_jacobian(field, normal(1, *shape, seed=1), 5.0)
    parts = split(matrix, shape, 4.0)
    assert float(far_spectrum(parts.average, 1, generator()).rank) < 20
    assert float(parts.far.norm()) < 1e-12 > float(parts.near.norm())


def test_convolutions_alone_reach_their_receptive_field() -> None:
    """Four of 3x3 reach four sites along an axis: nothing is beyond 4 sqrt 2, and much is beyond 3."""
    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.SiLU())]
    network = nn.Sequential(nn.Conv2d(1, 4, 1), *layers, nn.Conv2d(4, 1, 3, padding=1)).double()
    matrix = dense_jacobian(lambda x, sigma: network(x), normal(1, 1, 16, 16, seed=2), 1.0)
    assert power_by_distance(matrix, (1, 16, 16))[7:].sum() == 0
    beyond = split(matrix, (1, 16, 16), 4 * math.sqrt(2)).far
    assert beyond.abs().max() < 1e-16
    assert split(matrix, (1, 16, 16), 3.0).far.norm() > 1e-5


def test_the_uniform_coupling_is_the_constant_mode_s() -> None:
    """1.J 1/n through distant sites, of which the rest has no part."""
    shape = (2, 6, 6)
    matrix = normal(72, 72, seed=12)
    parts, ones = split(matrix, shape, 2.0), torch.full((72,), 72**-0.5, dtype=torch.float64)
    beyond = (distances(shape[1:]) > 2.0).repeat(2, 2)
    expected = ones @ (matrix * beyond) @ ones
    assert float(uniform_coupling(parts.average, shape, 2.0)) == pytest.approx(float(expected))
    assert abs(float(ones @ parts.far @ ones)) < 1e-14


def test_coherence_of_known_vectors() -> None:
    """1 of a constant, in every channel for itself; 0 of a wave; 1/N of random signs on average."""
    ones = torch.ones(1, 50, dtype=torch.float64)
    assert float(coherence(ones / ones.norm(), 1)) == pytest.approx(1)
    halves = torch.cat([ones[:, :25], -ones[:, :25]], 1) / ones.norm()
    assert float(coherence(halves, 1)) == pytest.approx(0, abs=1e-15)
    assert float(coherence(halves, 2)) == pytest.approx(1)
    signs = torch.randint(2, (4000, 50), generator=generator(13)).double() * 2 - 1
    found = coherence(signs / math.sqrt(50), 1)
    assert float(found.mean()) == pytest.approx(1 / 50, abs=4 * float(found.std()) / math.sqrt(4000))


def test_shares_add_up_to_one() -> None:
    """Orthogonal parts have their shares of the power; a part against the others has a negative one."""
    a, b = torch.zeros(2, 3, 3).unbind(0)
    a[0, 1], b[1, 0] = 1.0, 2.0
    assert shares([a, b]).tolist() == pytest.approx([0.2, 0.8])
    assert shares([3 * a, -a]).tolist() == pytest.approx([1.5, -0.5])
    assert shares([a - a, b - b]).isnan().all()


def test_the_symmetric_part_is_what_modes_are_of() -> None:
    """A rotation couples nothing in it."""
    rotation = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert symmetrised(rotation).abs().max() == 0
    assert far_spectrum(rotation, 2, generator()).rank.isnan()
