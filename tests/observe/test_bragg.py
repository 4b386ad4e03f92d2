"""Peaks of the structure factor against direct sums and states whose order is known."""

import math

import pytest
import torch

from helpers.errors import refused
from helpers.random import normal
from softmode.observe.bragg import bragg_peak, long_wave_power, structure_factors


def test_the_structure_factor_is_the_direct_sum() -> None:
    """|sum_i s_i exp(i k.i)|^2 / N at every wave of a 3x4 lattice; the mean over waves is that of s^2."""
    s = normal(2, 3, 4)
    found = structure_factors(s)
    for a in range(3):
        for b in range(4):
            phase = 2 * math.pi * (a * torch.arange(3)[:, None].double() / 3 + b * torch.arange(4) / 4)
            expected = ((s * phase.cos()).sum((1, 2)).square() + (s * phase.sin()).sum((1, 2)).square()) / 12
            torch.testing.assert_close(found[:, a, b], expected)
    torch.testing.assert_close(found.mean((1, 2)), s.square().mean((1, 2)))


@pytest.mark.parametrize("side", [8, 16])
def test_ordered_states_hold_the_same_share_on_any_lattice(side: int) -> None:
    """Uniform: all of the power at k = 0; a plane wave: half at each of +-k; of stripes of period 4 the same."""
    site = torch.arange(side, dtype=torch.float64)
    flips = torch.tensor([1.0, -1.0, -1.0, 1.0])[:, None, None]
    uniform = bragg_peak(flips.expand(4, side, side))
    assert uniform == (pytest.approx(1), 0, (0, 0))
    phases = torch.arange(4.0)[:, None, None]
    wave = (math.pi / 2 * (site[:, None] - site) + phases).cos() * math.sqrt(2)
    found = bragg_peak(wave)
    assert found.height == pytest.approx(0.5)
    assert [abs(c) for c in found.k] == pytest.approx([math.pi / 2, math.pi / 2])
    assert found.k[0] * found.k[1] < 0
    assert long_wave_power(wave, math.pi / 5) == pytest.approx(0, abs=1e-12)
    assert long_wave_power(wave, 3.0) == pytest.approx(1)
    stripes = torch.where((site + phases) % 4 < 2, 1.0, -1.0).expand(4, side, side)
    assert bragg_peak(stripes).height == pytest.approx(0.5)


def test_the_highest_of_many_noisy_waves_is_not_too_high() -> None:
    """Independent signs hold 1/N in the mean over 300 sets, within 4 standard errors; the largest would be 5/N."""
    found = torch.tensor([bragg_peak(normal(8, 8, 8, seed=seed).sign()).height for seed in range(300)])
    assert abs(float(found.mean()) - 1 / 64) < 4 * float(found.std()) / math.sqrt(300)
    with refused("states: got 1; expected at least 2"):
        bragg_peak(normal(1, 8, 8))
