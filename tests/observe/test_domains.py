"""Lengths of fields and correlation functions that are known."""

import math

import numpy as np
import pytest
import torch

from helpers.random import normal
from softmode.lattice import Lattice
from softmode.observe.correlation import autocorrelation, radial_average
from softmode.observe.domains import correlation_length, decay_length, unlike_neighbours, wall_spacing


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
    """Independent signs: half of the pairs, within 4 standard errors; one sign: none, and no wall."""
    found = unlike_neighbours(normal(4, 1, 64, 64))
    # pairs that share a site are uncorrelated
    assert (abs(found - 0.5) < 4 * 0.5 / math.sqrt(2 * 64**2)).all()
    uniform = unlike_neighbours(torch.ones(1, 1, 8, 8))
    assert float(uniform) == 0
    assert np.isinf(wall_spacing(uniform.numpy(), 2))
    # zero counts as positive
    assert float(unlike_neighbours(torch.tensor([[[0.0, 1.0, -0.0, 2.0]]]))) == 0


def ornstein_zernike(shape: tuple[int, ...], length: float) -> np.ndarray:
    """Return the radial average of the C whose S(k) is 1/(1 + xi^2 k^2)."""
    square = Lattice(shape).wave_vectors().square().sum(-1)
    spectrum = 1 / (1 + length**2 * square)
    return np.asarray(radial_average(torch.fft.ifftn(spectrum).real[None]).numpy())


@pytest.mark.parametrize("shape", [(512,), (192, 192), (64, 64, 64)], ids=str)
def test_the_length_is_that_of_ornstein_and_zernike(shape: tuple[int, ...]) -> None:
    """In any dimension, within what distances that are rounded to integers leave: some hundredths of a site."""
    for length in (1.5, 4.5):
        assert abs(correlation_length(ornstein_zernike(shape, length), shape)[0] - length) < 0.1


def test_lengths_of_one_form_are_in_proportion() -> None:
    """Also where S(k) is no Lorentzian: of exp(-r/xi), S = (1 + xi^2 k^2)^(-3/2), the same share of xi at any xi."""
    shape = (256, 256)
    distances = Lattice(shape).distances()
    scales = np.array([1.5, 3.0, 6.0])
    curves = np.concatenate([radial_average(torch.exp(-distances / scale)[None]).numpy() for scale in scales])
    shares = correlation_length(curves, shape) / scales
    assert np.ptp(shares) < 0.01 * shares.mean()


def test_the_noise_of_a_sample_is_no_length() -> None:
    """White noise: shorter than a site, in every one of many small samples; NaN where its slope is negative."""
    fields = normal(64, 1, 64, 64)
    found = correlation_length(radial_average(autocorrelation(fields)).numpy(), (64, 64))
    assert (np.nan_to_num(found) < 0.8).all()
    together = correlation_length(radial_average(autocorrelation(fields)).numpy().mean(0), (64, 64))
    assert not together > 0.25


def test_decay_lengths_are_those_of_known_curves() -> None:
    """Exactly of a straight line, whatever its height; NaN of what stays above 1/e."""
    r = np.arange(20.0)
    curves = np.stack([1 - r / 15, 7 * (1 - r / 15), np.ones(20)])
    length = 15 * (1 - math.exp(-1))
    np.testing.assert_allclose(decay_length(curves), [length, length, np.nan])
    assert decay_length(np.exp(-r / 5)) == pytest.approx(5, rel=0.01)
    # already below at the first distance
    assert decay_length(np.array([1.0, 0.0, 0.0])) == pytest.approx(1 - math.exp(-1))
