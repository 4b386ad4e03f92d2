import math

import pytest
import torch

from helpers.random import normal
from softmode.observe.order import binder_cumulant, lowest_structure_factor, magnetisation


@pytest.mark.parametrize("shape", [(1, 7), (3, 4, 5), (2, 2, 3, 4)], ids=str)
def test_magnetisation_is_the_mean_of_each_state(shape):
    """One mean over channels and sites per trajectory, signs kept, never averaged over the batch."""
    x = normal(3, *shape)
    expected = torch.stack([state.sum() / math.prod(shape) for state in x])
    torch.testing.assert_close(magnetisation(x), expected)
    torch.testing.assert_close(magnetisation(-x), -expected)


def test_binder_cumulant_of_known_values():
    """U4 = 1 - <m^4> / 3 <m^2>^2 on numbers worked out by hand, 2/3 for m = +-1, and scale-free."""
    m = torch.tensor([[1.0, 1.0], [-2.0, -1.0], [0.0, 1.0], [3.0, -1.0]], dtype=torch.float64)
    expected = torch.tensor([1 - (98 / 4) / (3 * (14 / 4) ** 2), 2 / 3], dtype=torch.float64)
    torch.testing.assert_close(binder_cumulant(m), expected)
    torch.testing.assert_close(binder_cumulant(-7 * m), expected)


def test_binder_cumulant_of_gaussian_values_is_zero():
    """Normal magnetisations have U4 = 0 within 4 standard errors, sqrt(24 / n) / 3 each, at every time."""
    trajectories, times = 20_000, 50
    cumulants = binder_cumulant(normal(trajectories, times))
    stderr = math.sqrt(24 / trajectories) / 3
    assert stderr < 0.012
    assert cumulants.shape == (times,)
    assert cumulants.abs().max() < 4 * stderr
    assert float(cumulants.mean()) == pytest.approx(0, abs=4 * stderr / math.sqrt(times))


def test_binder_cumulant_is_undefined_without_fluctuations():
    """Vanishing magnetisations have no cumulant: NaN, not 0."""
    assert binder_cumulant(torch.zeros(4, 1)).isnan().all()


@pytest.mark.parametrize("shape", [(9,), (6, 6), (4, 4, 4)], ids=str)
def test_the_lowest_structure_factor_is_that_of_the_transform(shape):
    """|FFT|^2/N at one step along each axis, averaged over the axes, of the mean over channels."""
    x = normal(3, 2, *shape)
    power = torch.fft.fftn(x.mean(1), dim=tuple(range(1, 1 + len(shape)))).abs().square() / math.prod(shape)
    lowest = [power[(slice(None), *(int(axis == one) for axis in range(len(shape))))] for one in range(len(shape))]
    torch.testing.assert_close(lowest_structure_factor(x), torch.stack(lowest).mean(0))
