"""Lengths of fields and correlation functions that are known."""

import math

import numpy as np
import pytest
import torch

from helpers.random import normal
from softmode.lattice import Lattice
from softmode.observe.correlation import radial_average
from softmode.observe.domains import decay_length, unlike_neighbours, wall_spacing, windowed_length

SHAPES = [(256,), (96, 96), (40, 40, 40)]


@pytest.mark.parametrize("shape", [(24,), (24, 24), (24, 24, 24)], ids=str)
def test_stripes_are_as_wide_as_the_walls_are_apart(shape: tuple[int, ...]) -> None:
    """Of width 1 to 4, across any one axis."""
    for width in (1, 2, 3, 4):
        along = torch.where(torch.arange(24) // width % 2 == 0, 1.0, -1.0)
        for axis in range(len(shape)):
            sides = [24 if other == axis else 1 for other in range(len(shape))]
            stripes = along.reshape(sides).expand(shape)
            density = unlike_neighbours(stripes[None, None]).numpy()
            np.testing.assert_allclose(wall_spacing(density, len(shape)), width)


def test_defects_of_no_order_and_of_full_order() -> None:
    """Independent signs: half of the pairs, within 4 standard errors; one sign: none, and walls infinitely far apart."""
    found = unlike_neighbours(normal(4, 1, 64, 64))
    # pairs that share a site are uncorrelated
    assert (abs(found - 0.5) < 4 * 0.5 / math.sqrt(2 * 64**2)).all()
    uniform = unlike_neighbours(torch.ones(1, 1, 8, 8))
    assert float(uniform) == 0
    assert np.isinf(wall_spacing(uniform.numpy(), 2))
    # zero counts as positive
    assert float(unlike_neighbours(torch.tensor([[[0.0, 1.0, -0.0, 2.0]]]))) == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_second_moment_of_a_bell_is_its_width_over_root_two(shape: tuple[int, ...]) -> None:
    """exp(-r^2/2a^2) has <r^2> = d a^2, so that xi = a/sqrt 2 in any dimension."""
    distances = Lattice(shape).distances()
    curve = radial_average(torch.exp(-distances.square() / 18)[None]).numpy()
    assert windowed_length(curve, shape, 4)[0] == pytest.approx(3 / math.sqrt(2), rel=0.01)


def test_noise_at_a_site_does_not_hide_what_is_correlated() -> None:
    """A sum of a bell and uncorrelated noise: <r^2> falls with the bell's share of the whole sum, and no further."""
    shape = (96, 96)
    distances = Lattice(shape).distances()
    bell = radial_average(torch.exp(-distances.square() / 18)[None]).numpy()
    noisy = bell.copy()
    noisy[:, 0] += 10
    share = 18 * math.pi / (18 * math.pi + 10)
    assert windowed_length(noisy, shape, 10)[0] == pytest.approx(3 * math.sqrt(share / 2), rel=0.01)


def test_a_window_leaves_out_what_the_docstring_says() -> None:
    """Of exp(-r/xi), whose second moment is xi sqrt(6)/2 in two dimensions: the same few per cent at every length."""
    shape = (512, 512)
    distances = Lattice(shape).distances()
    scales = np.array([4.0, 8.0, 16.0])
    curves = np.concatenate([radial_average(torch.exp(-distances / scale)[None]).numpy() for scale in scales])
    left = windowed_length(curves, shape, 10) / (scales * math.sqrt(1.5))
    assert ((left > 0.94) & (left < 0.99)).all()
    assert np.ptp(left) < 0.01


def test_a_lattice_without_room_for_the_window_has_no_length() -> None:
    """NaN, not what happens to be summed up to half the side; and NaN where the sum is negative."""
    distances = Lattice((32, 32)).distances()
    wide = radial_average(torch.exp(-distances / 12)[None]).numpy()
    assert np.isnan(windowed_length(wide, (32, 32), 4)).all()
    falling = np.concatenate([[10.0], np.full(16, -0.001)])
    assert np.isnan(windowed_length(falling, (32, 32), 4))


def test_decay_lengths_are_those_of_known_curves() -> None:
    """Exactly of a straight line, whatever its height; NaN of what stays above 1/e."""
    r = np.arange(20.0)
    curves = np.stack([1 - r / 15, 7 * (1 - r / 15), np.ones(20)])
    length = 15 * (1 - math.exp(-1))
    np.testing.assert_allclose(decay_length(curves), [length, length, np.nan])
    assert decay_length(np.exp(-r / 5)) == pytest.approx(5, rel=0.01)
    # already below at the first distance
    assert decay_length(np.array([1.0, 0.0, 0.0])) == pytest.approx(1 - math.exp(-1))
