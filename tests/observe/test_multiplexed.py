"""Multiplexed gains: unbiased, exact where modes do not mix, and the design of their signs."""

import math

import pytest
import torch

from helpers.models import LinearDenoiser
from helpers.random import normal
from softmode.exact.empirical import EmpiricalDenoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.lattice import Lattice
from softmode.observe.gains import difference_gains, evaluations, jvp_gains, mode_signs, multiplexed_gains


def order_of(modes):
    return 2 ** math.ceil(math.log2(modes))


@pytest.mark.parametrize("shape", [(1, 9), (1, 8, 7), (2, 6, 6), (1, 4, 4, 5)], ids=str)
def test_crosstalk_cancels_over_a_full_set_of_times_and_of_trajectories(shape):
    """For any linear map the mean over n consecutive times, or n trajectories, is the map's gain to rounding."""
    shells, axes = (min(shape[1:]) - 1) // 2, len(shape) - 1
    modes = 2 * axes * shells
    order, size, x = order_of(modes), math.prod(shape), normal(1, *shape, seed=1)
    denoiser = LinearDenoiser(normal(size, size))
    expected = difference_gains(denoiser, x, 1.0, shells, 1e-3)[0]
    times = range(5, 5 + order)
    over_times = torch.cat(
        [multiplexed_gains(denoiser, x, 1.0, shells, mode_signs(modes, [3], t, 0), 1e-3) for t in times]
    )
    signs = mode_signs(modes, range(order), 2, 0)
    over_trajectories = multiplexed_gains(denoiser, x.expand(order, *shape), 1.0, shells, signs, 1e-3)
    for gains in (over_times, over_trajectories):
        assert float(gains[:, 1:].std(0).min()) > 0.1  # each alone is far off
        torch.testing.assert_close(gains.mean(0), expected, rtol=1e-8, atol=1e-8)


def test_unbiased_over_seeds():
    """One state's estimate averages to the map's gains over the seeds of the signs, within 4 standard errors."""
    denoiser, x, shells = LinearDenoiser(normal(36, 36)), normal(1, 1, 6, 6, seed=1), 2
    expected = difference_gains(denoiser, x, 1.0, shells, 1e-3)[0]
    signs = torch.cat([mode_signs(8, [1], 4, seed) for seed in range(2000)])
    gains = multiplexed_gains(denoiser, x.expand(2000, 1, 6, 6), 1.0, shells, signs, 1e-3)
    stderr = gains.std(0) / math.sqrt(len(gains))
    assert float(stderr[1:].max()) < 0.06
    assert bool(((gains.mean(0) - expected).abs() <= 4 * stderr + 1e-9).all())
    torch.testing.assert_close(gains[:, 0], expected[0].expand_as(gains[:, 0]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_exact_at_every_state_where_modes_do_not_mix(channels):
    """A symmetric translation-invariant response has no crosstalk: every single estimate is the closed form."""
    lattice = Lattice((8, 6))
    spectrum = 2 / (0.3 + lattice.wave_vectors().square().sum(-1))
    denoiser, x = GaussianDenoiser(spectrum), normal(4, channels, 8, 6)
    sigma = torch.tensor([0.3, 1.0, 2.0, 9.0], dtype=torch.float64)
    gains = multiplexed_gains(denoiser, x, sigma, 2, mode_signs(8, range(4), 7, 1))
    expected = denoiser.dispersion(x, sigma, lattice.shell_vectors(2))
    torch.testing.assert_close(gains, expected, rtol=1e-7, atol=1e-9)


def test_agrees_with_single_modes_on_a_nonlinear_model():
    """On an empirical score the mean over a full set of signs is the forward-mode gain, to second order in the step."""
    denoiser, x, sigma = EmpiricalDenoiser(normal(5, 1, 6, 6, seed=3) / 3), 0.3 * normal(1, 1, 6, 6, seed=4), 0.8
    expected = jvp_gains(denoiser, x, sigma, 2)[0]
    signs = mode_signs(8, range(8), 0, 0)
    errors = [
        float((multiplexed_gains(denoiser, x.expand(8, 1, 6, 6), sigma, 2, signs, step).mean(0) - expected).abs().max())
        for step in (2e-2, 1e-2, 5e-3)
    ]
    assert errors[2] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_signs_belong_to_trajectory_and_time():
    """Signs are ±1, do not depend on the batch, and differ between times, trajectories and seeds."""
    signs = mode_signs(24, range(16), 3, 0)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(mode_signs(24, [5, 9], 3, 0), signs[[5, 9]], rtol=0, atol=0)
    assert len(signs.unique(dim=0)) == 16
    for other in (mode_signs(24, range(16), 4, 0), mode_signs(24, range(16), 3, 1)):
        assert not torch.equal(other, signs)


@pytest.mark.parametrize("shells", [0, 1, 3])
def test_evaluations_are_what_the_methods_spend(shells):
    """The stated cost is the number of states that go through the denoiser."""
    x, modes = normal(3, 1, 8, 8), 4 * shells
    for method, measure in (
        ("multiplexed", lambda d: multiplexed_gains(d, x, 1.0, shells, mode_signs(modes, range(3), 0, 0))),
        ("difference", lambda d: difference_gains(d, x, 1.0, shells)),
    ):
        denoiser = LinearDenoiser(normal(64, 64))
        measure(denoiser)
        assert sum(map(len, denoiser.seen)) == 3 * evaluations(method, shells, 2)
