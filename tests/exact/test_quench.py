"""Steps of a quench against moments that are known exactly."""

import math

import numpy as np
import pytest
import torch

from softmode.exact.patch import TwoStatePatch
from softmode.exact.patch_dynamics import Steps, advance
from softmode.exact.quench import denoising, noise_share, quench_levels, quench_steps, seen
from softmode.lattice import ReceptiveField

rates = pytest.mark.parametrize("rate", [0.25, 1.0, 4.0, 32.0])


def variances(steps: Steps, first: float, last: float, share: float, signal: float) -> tuple[float, float]:
    """Return the variance of y before the first step and after the last one, with D that of a Gaussian of variance S.

    x and its next y have the variance of D's own state at the first level.
    """
    x = first**2 * (1 - share**2) + signal
    start = x + (first * share) ** 2
    for sigma, before, keep, pull, after in zip(
        steps.sigma, steps.before, steps.keep, steps.pull, steps.after, strict=True
    ):
        gain = keep + pull * signal / (signal + sigma**2)
        x = gain**2 * x + (gain * before + after) ** 2
    return start, x + (last * share) ** 2


@rates
def test_the_noise_keeps_its_variance_at_any_step(rate: float) -> None:
    """Where D is constant, y has the variance sigma^2 at every level, however long the steps are."""
    for count in (1, 3, 20):
        steps = quench_steps(5.0, 2.0, rate, count)
        last, share = 5.0 * math.exp(-2.0), noise_share(2.0 / count, rate)
        start, end = variances(steps, 5.0, last, share, 0.0)
        assert start == pytest.approx(25)
        assert end == pytest.approx(last**2)


@rates
def test_a_gaussian_s_variance_is_right_to_second_order(rate: float) -> None:
    """S + sigma^2 at every level and rate; half the step has a quarter of the error."""
    signal, first, last = 9.0, 12.0, 1.0
    errors = []
    for half in (1, 2):
        count = 20 * half * math.ceil(1 + rate)
        steps = quench_steps(first, math.log(first / last), rate, count)
        share = noise_share(math.log(first / last) / count, rate)
        _, end = variances(steps, first, last, share, signal)
        errors.append(abs(end / (signal + last**2) - 1))
    assert errors[0] < 2e-3
    assert errors[1] < errors[0] / 3


def test_without_relaxation_it_is_the_probability_flow() -> None:
    """R = 0: no noise, and a step that is exact where D is constant, as DDIM's is."""
    steps = quench_steps(3.0, 0.7, 0.0, 7)
    assert not steps.before.any()
    assert not steps.after.any()
    np.testing.assert_allclose(steps.keep, math.exp(-0.1))
    np.testing.assert_allclose(steps.keep + steps.pull, 1)


def test_a_long_relaxation_is_the_frozen_dynamics() -> None:
    """R to infinity with (1 + R) d log sigma = h: Leimkuhler and Matthews' step of length 1 - exp(-h)."""
    rate, step = 1e6, 0.3
    steps = quench_steps(2.0, step / (1 + rate), rate, 1)
    length = 1 - math.exp(-step)
    np.testing.assert_allclose([steps.sigma[0], steps.keep[0], steps.pull[0]], [2, 1 - length, length], rtol=1e-5)
    np.testing.assert_allclose([steps.before[0], steps.after[0]], 2 * math.sqrt(length / 2), rtol=1e-5)


def test_what_is_measured_is_what_the_next_step_starts_from() -> None:
    """The y of `seen` with the same number: the step makes x' of it, with D from one more step that does only that."""
    model = TwoStatePatch(ReceptiveField.box(3, 2))
    x = 2 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keys, steps = torch.tensor([5, 6]), quench_steps(2.0, 0.1, 3.0, 1)
    y = advance(model, x, seen(steps), keys, first=4)
    number = (y - x) / steps.before[0]
    assert 0.7 < float(number.std()) < 1.3
    denoised = advance(model, y, denoising(float(steps.sigma[0])), keys)
    torch.testing.assert_close(denoised, model(y, float(steps.sigma[0])))
    expected = steps.keep[0] * y + steps.pull[0] * denoised + steps.after[0] * number
    torch.testing.assert_close(advance(model, x, steps, keys, first=4), expected)


def test_levels_pass_through_the_one_that_is_asked_for() -> None:
    """Evenly spaced in their logarithm, and from at least the first to at most the last."""
    levels = quench_levels(40.0, 0.03, 0.2, 1.96)
    np.testing.assert_allclose(np.diff(np.log(levels)), -0.2)
    assert np.isclose(levels, 1.96, rtol=1e-12).sum() == 1
    assert 40 <= levels[0] < 40 * math.exp(0.2)
    assert 0.03 * math.exp(-0.2) < levels[-1] <= 0.03
