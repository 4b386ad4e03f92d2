import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gamma

from softmode.formulas import hartree
from softmode.formulas.landau import critical_time
from softmode.lattice import ReceptiveField
from softmode.process import VP


def normal_mean(function, mean, spread):
    """Return the average of a function of mean + spread z by adaptive quadrature."""
    middle = min(max(-mean / spread, -11), 11)
    ends = sorted({-12.0, 12.0, *(min(max(middle + d / spread, -12), 12) for d in (-4, 0, 4))})
    pieces = itertools.pairwise(ends)
    return sum(
        quad(
            lambda z: function(mean + spread * z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), *ends, epsabs=1e-13
        )[0]
        for ends in pieces
    )


def sech2(y):
    return 1 - math.tanh(y) ** 2


def dense(field, side):
    """Return the matrix that sums over the receptive field, [N, N]."""
    sites = list(itertools.product(range(side), repeat=field.dimensions))
    place = {site: i for i, site in enumerate(sites)}
    matrix = np.zeros((len(sites), len(sites)))
    for site, i in place.items():
        for u in field.offsets:
            matrix[i, place[tuple((a + b) % side for a, b in zip(site, u, strict=True))]] += 1
    return matrix


@pytest.mark.parametrize(
    ("mean", "spread"), [(0.0, 0.3), (0.0, 1.0), (0.5, 0.999), (0.5, 1.001), (3.0, 1.0), (-1.0, 5.0), (0.01, 50.0)]
)
def test_averages_are_those_of_quadrature(mean, spread):
    expected = [normal_mean(function, mean, spread) for function in (math.tanh, sech2)]
    assert hartree.averages(mean, spread) == pytest.approx(expected, abs=1e-11)
    assert hartree.averages(mean, 0.0) == pytest.approx((math.tanh(mean), sech2(mean)))


@pytest.mark.parametrize(
    "field", [ReceptiveField.box(3, 1), ReceptiveField.cross(1), ReceptiveField.box(3)], ids=["1", "+", "3"]
)
def test_the_noise_of_a_patch_sum_is_that_of_the_dense_covariance(field):
    """C = sigma^2 (1 - A)^-1 solves the Lyapunov equation of the linear dynamics, and its patch sums have V."""
    side, sigma, gain = 6, 1.7, 0.8
    omega = dense(field, side)
    slope = gain * sigma**2 / field.size
    a = slope / sigma**2 * omega
    covariance = sigma**2 * np.linalg.inv(np.eye(len(a)) - a)
    drift = a - np.eye(len(a))
    np.testing.assert_allclose(drift @ covariance + covariance @ drift.T, -2 * sigma**2 * np.eye(len(a)), atol=1e-9)
    variance = np.diag(omega @ covariance @ omega.T)
    f = hartree.shape(field, side)
    np.testing.assert_allclose(variance, sigma**2 * field.size * hartree.noise(f, field.size, gain))
    without = hartree.noise(f, field.size, gain, zero_mode=False)
    uniform = field.size / (len(a) * (1 - gain))
    assert hartree.noise(f, field.size, gain) - without == pytest.approx(uniform)


def test_a_symmetric_state_is_consistent():
    """The slope of the dense covariance's normal patch sums is the one that made the covariance."""
    field, side, sigma = ReceptiveField.cross(1), 6, 1.5
    found = hartree.symmetric_branch(field, side, sigma)
    slope = found.gain * sigma**2 / field.size
    omega = dense(field, side)
    covariance = sigma**2 * np.linalg.inv(np.eye(len(omega)) - slope / sigma**2 * omega)
    spread = math.sqrt((omega @ covariance @ omega.T)[0, 0])
    assert normal_mean(lambda s: sech2(s / sigma**2), 0.0, spread) == pytest.approx(slope, rel=1e-9)
    assert 0 < found.gain < 1
    assert found.magnetisation == 0


def test_an_ordered_state_is_consistent():
    """Mean and slope of the patch sums of the dense covariance, the uniform mode taken out, give both back."""
    field, side = ReceptiveField.box(3), 6
    found = hartree.ordered_branch(field, side, 1.2)
    sigma, omega = found.sigma, dense(field, side)
    slope = found.gain * sigma**2 / field.size
    modes, vectors = np.linalg.eigh(omega)
    kept = np.abs(modes - field.size) > 1e-9
    variances = modes**2 * sigma**2 / (1 - slope / sigma**2 * modes) * kept
    spread = math.sqrt((vectors**2 @ variances)[0])
    mean = field.size * found.magnetisation
    assert mean / sigma**2 == pytest.approx(1.2)
    assert normal_mean(lambda s: math.tanh(s / sigma**2), mean, spread) == pytest.approx(found.magnetisation, rel=1e-9)
    assert normal_mean(lambda s: sech2(s / sigma**2), mean, spread) == pytest.approx(slope, rel=1e-9)


def test_limits_of_the_critical_level():
    """Tree level without noise, 1 - W to first order in it, and independent sites whatever the patch."""
    for omega in (5, 25, 343):
        assert hartree.critical_level(omega, 0.0) == pytest.approx(math.sqrt(omega))
        assert hartree.critical_level(omega, 1.0) == pytest.approx(0.68454 * math.sqrt(omega), rel=1e-5)
    assert math.log1p(hartree.critical_level(25, 0.0) ** 2) == pytest.approx(critical_time(VP(), 25.0))
    for small in (1e-3, 1e-4):
        assert hartree.critical_level(1, small) ** 2 == pytest.approx(1 - small, abs=3 * small**2)
    s = hartree.critical_level(1, 3.0)
    assert normal_mean(sech2, 0.0, math.sqrt(3.0) / s) == pytest.approx(s**2)
    assert hartree.critical_level(25, math.inf) == 0


def test_the_cross_in_three_dimensions_has_watsons_integral():
    """W = 7 (7 I - 1 - 1/7) with I = int 1/(6 - 2 sum cos k), known in closed form."""
    watson = math.sqrt(6) / (96 * math.pi**3) * math.prod(gamma(n / 24) for n in (1, 5, 7, 11))
    expected = 7 * (7 * watson / 2 - 1 - 1 / 7)
    field = ReceptiveField.cross(1, 3)
    assert hartree.infinite_noise(field, 24) == pytest.approx(expected, rel=1e-3)
    # one lattice alone lacks a share of the order 1/L
    alone = hartree.noise(hartree.shape(field, 48), 7, 1.0, zero_mode=False)
    assert alone < 0.97 * expected


def test_noise_diverges_with_the_logarithm_of_the_side_in_two_dimensions():
    """W grows by |Omega|^2 / (2 pi c_Omega) per unit of log L."""
    field = ReceptiveField.box(5)
    assert hartree.infinite_noise(field, 16) == math.inf
    small, large = (hartree.noise(hartree.shape(field, side), 25, 1.0, zero_mode=False) for side in (128, 256))
    assert large - small == pytest.approx(25**2 / (2 * math.pi * field.c_omega) * math.log(2), rel=1e-3)


def test_the_gap_to_tree_level_does_not_close():
    """sigma_c of boxes in d = 3 goes to a constant share of sqrt |Omega|, as a + b / width^2."""
    shares = []
    for width, side in ((3, 16), (5, 24), (7, 32)):
        field = ReceptiveField.box(width, 3)
        shares.append(hartree.critical_level(field.size, hartree.infinite_noise(field, side)) / math.sqrt(field.size))
    slopes = np.diff(shares) / np.diff([1 / 9, 1 / 25, 1 / 49])
    assert slopes[1] == pytest.approx(slopes[0], rel=0.1)
    assert shares[2] - slopes[1] / 49 == pytest.approx(0.388, abs=0.002)


def test_the_ordered_branch_begins_where_the_symmetric_one_ends_and_ends_above():
    """In d = 3; its end is the highest level that it reaches."""
    field, side = ReceptiveField.cross(1, 3), 24
    lattice = hartree.noise(hartree.shape(field, side), field.size, 1.0, zero_mode=False)
    start = hartree.critical_level(field.size, lattice)
    assert hartree.ordered_branch(field, side, 1e-3).sigma == pytest.approx(start, rel=1e-4)
    end = hartree.ordered_limit(field, side)
    levels = [hartree.ordered_branch(field, side, mu).sigma for mu in np.geomspace(0.1, 8, 30)]
    assert max(levels) == pytest.approx(end.sigma, rel=0.01)
    assert max(levels) <= end.sigma * (1 + 1e-9)
    assert end.sigma > 1.2 * start
    assert 0.5 < end.magnetisation < 0.9


def test_a_field_without_inversion_symmetry_is_refused():
    with pytest.raises(ValueError, match="expected -u for every u"):
        hartree.shape(ReceptiveField(((0, 0), (0, 1))), 8)
    with pytest.raises(ValueError, match="receptive_field: spans"):
        hartree.shape(ReceptiveField.box(9), 8)
