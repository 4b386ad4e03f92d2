import itertools
import math

import numpy as np
import pytest

from helpers.ising import ising
from softmode.finite_size.moments import MOMENTS, Moments
from softmode.observe.order import binder_of_moments, second_moment_length, susceptibility


def states(side, temperature):
    """Return m and S(k_min) of every state of the Ising model on a square, with its probability."""
    every = np.array(list(itertools.product((-1, 1), repeat=side**2))).reshape(-1, side, side)
    energy = -sum((every * np.roll(every, 1, axis)).sum((1, 2)) for axis in (1, 2))
    weight = np.exp(-(energy - energy.min()) / temperature)
    wave = np.abs(np.fft.fft2(every)) ** 2 / side**2
    return every.mean((1, 2)), (wave[:, 1, 0] + wave[:, 0, 1]) / 2, weight / weight.sum()


def test_observables_are_those_of_all_states():
    """Averages of all 65,536 states of 4x4 spins against the textbook formulas, and Wolff's clusters against both."""
    m, structure, weight = states(4, 2.5)
    averages = np.array([weight @ np.abs(m), weight @ m**2, weight @ m**4, weight @ structure])
    exact = Moments(4, 2, 2.5, np.tile(averages, (10, 1))).of_averages(averages[None])
    assert exact["chi"][0] == pytest.approx(16 * (weight @ m**2 - (weight @ np.abs(m)) ** 2))
    assert exact["U4"][0] == pytest.approx(1 - weight @ m**4 / (3 * (weight @ m**2) ** 2))
    length = math.sqrt(16 * (weight @ m**2) / (weight @ structure) - 1) / (2 * math.sin(math.pi / 4))
    assert exact["xi"][0] == pytest.approx(length)
    assert exact["xi/L"][0] == pytest.approx(length / 4)
    found = ising(4, 2.5, 200, 100, 4).observables()
    assert set(found) == set(exact)
    for name, estimate in found.items():
        assert abs(estimate.value - exact[name][0]) < 4 * estimate.stderr < 0.1 * exact[name][0], name
        assert estimate.samples == 200


def test_errors_are_those_of_many_independent_runs():
    """The jackknife over blocks of one run, and the bootstrap, against the scatter of 60 runs of other seeds."""
    runs = [ising(8, 2.3, 40, 60, 3, seed) for seed in range(60)]
    for name in ("|m|", "chi", "U4", "xi"):
        estimates = [run.observables()[name] for run in runs]
        scatter = np.std([each.value for each in estimates], ddof=1)
        jackknife = math.sqrt(np.mean([each.stderr**2 for each in estimates]))
        resampled = math.sqrt(np.mean([run.resampled(200)[name].var(ddof=1) for run in runs]))
        # 4 standard errors of a standard deviation of 60 numbers
        assert jackknife == pytest.approx(scatter, rel=4 / math.sqrt(2 * 59)), name
        assert resampled == pytest.approx(jackknife, rel=0.05), name


def test_observables_of_one_resample_share_their_units():
    """U4 and |m| of the same resample vary together as the units do; another point's resamples are others."""
    run = ising(8, 2.3, 100, 20, 3)
    first, second = run.resampled(500), Moments(8, 2, 2.31, run.means).resampled(500)
    assert np.corrcoef(first["U4"], first["|m|"])[0, 1] > 0.5
    assert abs(np.corrcoef(first["U4"], second["U4"])[0, 1]) < 4 / math.sqrt(500)
    np.testing.assert_array_equal(run.resampled(5, seed=3)["xi"], run.resampled(5, seed=3)["xi"])
    assert not np.array_equal(run.resampled(5, seed=4)["xi"], run.resampled(5, seed=3)["xi"])


def test_what_is_undefined_says_so():
    """A lowest wave that is stronger than the uniform one has no length; without any fluctuation there is no U4."""
    rng = np.random.default_rng(0)
    flat = Moments(4, 2, 9.0, rng.uniform(0.9, 1.1, (20, 4)) * [0.1, 0.01, 3e-4, 0.5])
    found = flat.observables()
    assert math.isnan(found["xi"].value)
    assert found["xi"].reason == "S(k_min) reaches N m^2"
    assert found["U4"].value == pytest.approx(0, abs=0.1)
    nothing = Moments(4, 2, 9.0, np.zeros((20, 4))).observables()
    assert math.isnan(nothing["U4"].value)
    assert nothing["U4"].reason == "nothing fluctuates"
    assert nothing["chi"].value == 0


def test_limits_of_the_formulas():
    """Order has U4 = 2/3 and chi = 0, Gaussian m has U4 = 0; equal S(k_min) and N m^2 have no length."""
    one, zero = np.ones(1), np.zeros(1)
    assert (binder_of_moments(one, one)) == pytest.approx(2 / 3)
    assert (binder_of_moments(one, 3 * one)) == 0
    assert (susceptibility(one, one, 100)) == 0
    assert (susceptibility(zero, one, 100)) == 100
    assert second_moment_length(one, 64 * one, 8, 64) == 0
    # Ornstein-Zernike on the lattice, S(0)/S(k) = 1 + xi^2 (2 sin(k/2))^2
    wanted, k = 3.0, 2 * math.pi / 20
    ratio = 1 + (wanted * 2 * math.sin(k / 2)) ** 2
    assert (second_moment_length(one, 400 * one / ratio, 20, 400)) == pytest.approx(wanted)


def test_too_few_units_are_refused():
    with pytest.raises(ValueError, match=r"9 units at L = 8, 2\.5; expected at least 10"):
        Moments(8, 2, 2.5, np.ones((9, len(MOMENTS))))
