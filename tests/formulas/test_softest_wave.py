"""Where dictionaries go soft, against dense Jacobians and the law of large random matrices."""

import math

import numpy as np
import pytest
import torch

from formulas.test_landau import BOX, weighted_dictionary
from formulas.test_patches import ONE_SIGN
from helpers.dense import jacobian
from helpers.errors import refused
from helpers.random import normal
from softmode.exact.dictionary import PatchDictionary, paper_dictionary, random_dictionary, two_state_dictionary
from softmode.exact.patch import PatchDenoiser
from softmode.formulas.landau import critical_time
from softmode.formulas.patches import covariance, local_score
from softmode.formulas.softest_wave import edge, lattice_critical_time, patch_critical_time, softest_wave
from softmode.lattice import ReceptiveField
from softmode.process import VE, VP

SMALL = [
    pytest.param(random_dictionary(8, 0, ReceptiveField.box(5)), id="random-0"),
    pytest.param(random_dictionary(8, 2, ReceptiveField.box(5)), id="random-2"),
    pytest.param(weighted_dictionary(), id="weighted"),
    pytest.param(paper_dictionary(0, ReceptiveField.box(3)), id="paper"),
    pytest.param(random_dictionary(3, 1, ReceptiveField.parse("offsets:0;1;3", dimensions=1)), id="chain"),
]


@pytest.mark.parametrize("dictionary", SMALL)
def test_a_patch_goes_soft_where_its_score_does(dictionary: PatchDictionary) -> None:
    """The largest eigenvalue of the Jacobian of a patch's score at 0 vanishes there, and is negative before."""
    for process in (VP(), VE()):
        t = patch_critical_time(process, dictionary)
        zero = torch.zeros(dictionary.receptive_field.size, dtype=torch.float64)
        for at, sign in ((1.001 * t, -1), (t, 0), (0.999 * t, 1)):
            top = torch.linalg.eigvalsh(jacobian(lambda z: local_score(z, process, at, dictionary), zero))[-1]  # noqa: B023
            scale = float(process.sigma(at)) ** -2
            assert float(top) / scale == pytest.approx(0, abs=1e-9) if sign == 0 else float(top) * sign > 0


@pytest.mark.parametrize("dictionary", SMALL)
def test_the_lattice_goes_soft_where_its_jacobian_does(dictionary: PatchDictionary) -> None:
    """At the softest wave of a 9-site lattice the dense, symmetrised Jacobian of the denoiser at 0 has eigenvalue 1."""
    shape = (9,) * dictionary.receptive_field.dimensions
    zero = torch.zeros(1, 1, *shape, dtype=torch.float64)
    t = lattice_critical_time(VE(), dictionary, shape)
    dense = jacobian(lambda x: PatchDenoiser(dictionary)(x, t), zero)
    values, vectors = torch.linalg.eigh((dense + dense.T) / 2)
    assert float(values[-1]) == pytest.approx(1, abs=1e-9)
    wave = softest_wave(dictionary, t, shape)
    assert wave.strength == pytest.approx(t**2)
    sites = torch.cartesian_prod(*(torch.arange(9),) * len(shape)).double().reshape(-1, len(shape))
    plane = torch.exp(1j * (sites @ torch.tensor(wave.k, dtype=torch.float64))) / math.sqrt(len(sites))
    top = vectors[:, values > 1 - 1e-9]
    assert float((top.to(plane).T @ plane).abs().square().sum()) == pytest.approx(1)
    quotient = complex(plane.conj() @ dense.to(plane) @ plane)
    assert wave.drift == pytest.approx(quotient.imag / quotient.real, abs=1e-9)


def test_the_softest_wave_is_the_highest_point_of_the_spectrum() -> None:
    """On an infinite lattice no wave of a fine grid lies above it, and it is higher than on any lattice."""
    k = torch.cartesian_prod(*(torch.linspace(-math.pi, math.pi, 201, dtype=torch.float64),) * 2)
    for seed in range(12):
        dictionary = random_dictionary(8, seed, BOX)
        wave = softest_wave(dictionary)
        spectrum = BOX.transform(k, dictionary.coupling()).real
        assert wave.strength >= float(spectrum.max()) - 1e-9
        assert wave.strength == pytest.approx(float(spectrum.max()), rel=1e-2)
        assert softest_wave(dictionary, shape=(20, 20)).strength <= wave.strength + 1e-9
        assert all(-math.pi < c <= math.pi for c in wave.k)


def test_reference_values_of_random_dictionaries() -> None:
    """Eight patterns on 5x5 sites: t = 1.56 at (pi, pi), without drift, where the uniform mode's is 1.18; and 1.83."""
    first = random_dictionary(8, 0, BOX)
    wave = softest_wave(first)
    assert wave.k == pytest.approx((math.pi, math.pi))
    assert wave.drift == 0
    assert lattice_critical_time(VP(), first) == pytest.approx(math.log(1 + wave.strength))
    assert lattice_critical_time(VP(), first) == pytest.approx(1.56, abs=5e-3)
    assert critical_time(VP(), first.omega_eff) == pytest.approx(1.18, abs=5e-3)
    third = random_dictionary(8, 2, BOX)
    assert third.omega_eff < 0
    assert lattice_critical_time(VP(), third) == pytest.approx(1.83, abs=5e-3)
    assert all(patch_critical_time(VP(), each) > lattice_critical_time(VP(), each) for each in (first, third))


@pytest.mark.parametrize(
    ("patterns", "lattice", "patch"),
    [(1, 9.0, 25), (2, 6.7, 14.8), (4, 4.9, 9.0), (8, 3.8, 6.0), (16, 2.9, 4.2), (64, 1.95, 2.35)],
)
def test_mean_strengths_of_random_dictionaries(patterns: int, lattice: float, patch: float) -> None:
    """Over 100 seeds, as an independent computation found them, to its two digits and 4 standard errors."""
    made = [random_dictionary(patterns, seed, BOX) for seed in range(100)]
    waves = np.array([softest_wave(each).strength for each in made])
    tops = np.array([float(torch.linalg.eigvalsh(covariance(VP(), 1.0, each))[-1]) for each in made])
    for found, expected in ((waves, lattice), (tops, patch)):
        assert abs(found.mean() - expected) < 4 * found.std() / 10 + 0.02 * expected


def test_uniform_patterns_go_soft_together_at_their_size() -> None:
    """Two uniform patterns: log 26 for a patch and for the lattice, at k = 0; where the centre is 0, never."""
    uniform = two_state_dictionary(BOX)
    assert softest_wave(uniform) == ((0.0, 0.0), pytest.approx(25), 0.0)
    for time in (lattice_critical_time, patch_critical_time):
        assert time(VP(), uniform) == pytest.approx(math.log(26))
    field = ReceptiveField.parse("offsets:-1;0;1", dimensions=1)
    rows = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    blind = PatchDictionary(field, torch.cat([rows, -rows]), torch.full((2,), 0.5, dtype=torch.float64))
    assert math.isnan(lattice_critical_time(VP(), blind))
    assert patch_critical_time(VP(), blind) == pytest.approx(math.log(3))


def test_the_largest_eigenvalue_nears_the_edge() -> None:
    """Of many patterns on many sites it is the edge less what Tracy and Widom's law leaves of it (johnstone2001)."""
    patterns, size, count = 400, 225, 60
    field = ReceptiveField.box(15)
    tops = [
        torch.linalg.eigvalsh(covariance(VP(), 1.0, random_dictionary(patterns, seed, field)))[-1]
        for seed in range(count)
    ]
    found, spread = float(np.mean(tops)), float(np.std(tops)) / math.sqrt(count)
    roots = math.sqrt(patterns) + math.sqrt(size)
    width = roots * (1 / math.sqrt(patterns) + 1 / math.sqrt(size)) ** (1 / 3) / patterns
    # the mean of the law of real matrices; next to the edge itself entries of +-1 differ from normal ones by 1/M
    assert abs(found - (edge(patterns, size) - 1.2065 * width)) < 4 * spread + 2 * edge(patterns, size) / patterns
    assert spread < 0.2 * width


def test_what_has_no_symmetric_point_is_refused() -> None:
    """And a spectrum of nothing has no edge."""
    with refused("dictionary: got one without Z2 symmetry"):
        softest_wave(ONE_SIGN)
    with refused("patterns: got 0 on 25 sites; expected at least 1 of each"):
        edge(0, 25)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_softest_wave_grows_first_in_a_simulation(seed: int) -> None:
    """In a weak field that follows the frozen score k* grows as it should 3 % below its level; above it, nothing."""
    dictionary, shape = random_dictionary(8, seed, BOX), (24, 24)
    wave = softest_wave(dictionary, shape=shape)
    assert any(wave.k)
    start = 1e-6 * normal(1, 1, *shape)
    for factor in (0.97, 1.03):
        level, x = factor * math.sqrt(wave.strength), start
        step, steps = 0.02 * level**2, 1500
        for _ in range(steps):
            x = x + step * (PatchDenoiser(dictionary)(x, level) - x) / level**2
        growth = (torch.fft.fftn(x).abs() / torch.fft.fftn(start).abs())[0, 0]
        rate = 0.02 * (wave.strength / level**2 - 1)
        places = tuple(round(c * side / (2 * math.pi)) % side for c, side in zip(wave.k, shape, strict=True))
        assert (float(growth.max()) > 1) == (factor < 1)
        assert math.log(float(growth[places])) / steps == pytest.approx(rate, rel=0.05)
        if factor < 1:
            assert float(x.abs().max()) < 0.1
            assert float(growth[places]) == pytest.approx(float(growth.max()), rel=1e-6)
