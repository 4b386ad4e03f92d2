"""The frozen score's Langevin dynamics where its law is known."""

import math
from itertools import islice

import pytest
import torch

from helpers.random import normal
from softmode.denoiser import Denoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.langevin import frozen_langevin
from softmode.streams import TrajectoryNoise


def run(denoiser: Denoiser, sigma: float, step: float, steps: int, start: torch.Tensor) -> list[torch.Tensor]:
    noise = TrajectoryNoise(0, range(len(start)))
    return [x for x, _ in islice(frozen_langevin(denoiser, start, sigma, step, noise), steps + 1)]


@pytest.mark.parametrize("step", [0.1, 1.0])
def test_around_a_constant_the_variance_is_exact_at_any_step(step: float) -> None:
    """D = 3: from 0 the mean is 3 (1 - e^-t), the variance sigma^2 (1 - e^-2t), within 4 standard errors."""
    start, count = torch.zeros(4, 1, 100, 100, dtype=torch.float64), 40_000
    states = run(lambda x, sigma: torch.full_like(x, 3.0), 2.0, step, 5, start)
    for n, x in enumerate(states):
        variance = 4 * (1 - math.exp(-2 * n * step))
        assert abs(float(x.mean()) - 3 * (1 - math.exp(-n * step))) <= 4 * math.sqrt(variance / count)
        assert abs(float(x.var()) - variance) <= 4 * variance * math.sqrt(2 / count)
    assert torch.equal(start, torch.zeros_like(start))


def test_a_gaussian_s_modes_reach_their_equilibrium_and_forget_at_their_rate() -> None:
    """Of variance S + sigma^2 with C(t) = e^(-(1 - G) t), to first order in the step."""
    sigma, step = 1.5, 0.05
    denoiser = GaussianDenoiser(torch.full((32, 32), 4.0, dtype=torch.float64))
    gain, variance = 4 / (4 + sigma**2), 4 + sigma**2
    states = run(denoiser, sigma, step, 600, math.sqrt(variance) * normal(8, 1, 32, 32, seed=9))
    first, last = states[300], states[600]
    error = math.sqrt(2 / first.numel())
    assert abs(float(last.var()) / variance - 1) < 4 * error + step
    lag = 20
    kept = float((states[300] * states[300 + lag]).mean() / states[300].square().mean())
    assert kept == pytest.approx(math.exp(-(1 - gain) * lag * step), abs=4 * error + step / 2)
