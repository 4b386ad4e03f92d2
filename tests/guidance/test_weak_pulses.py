"""Reverse sweeps are the limit of weak pulses, trial by trial, at every level: on an exact mixture and on a network."""

import numpy as np
import pytest
import torch
from torch import Tensor

from softmode.denoiser import Denoiser, Guided
from softmode.exact.mixture import GaussianMixture
from softmode.guidance.adjoint import Adjoint
from softmode.guidance.weights import AtLevels, Weights
from softmode.process import VE, rho_grid
from softmode.samplers import Heun

LEVELS = rho_grid(20.0, 0.05, 9)
TIMES = torch.cat([LEVELS, LEVELS.new_zeros(1)])
WEAK = 1e-3
MIXTURE = GaussianMixture(torch.tensor([[[1.0, 0.5]], [[-1.0, -0.5]]], dtype=torch.float64), 0.6)


class Network(torch.nn.Module):
    """A small network of states and levels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inner = torch.nn.Linear(2, 6, dtype=torch.float64)
        self.outer = torch.nn.Linear(6, 2, dtype=torch.float64)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return D."""
        scale = 1 / (1 + float(torch.as_tensor(sigma)))
        return self.outer(torch.tanh(self.inner(x * scale) + scale)) + 0.3 * scale * x


PAIRS: dict[str, tuple[Denoiser, Denoiser]] = {
    "mixture": (MIXTURE.denoiser(0), MIXTURE.denoiser()),
    "network": (Network(1), Network(2)),
}
OUTCOMES = {
    "probability": lambda final: MIXTURE.log_posterior(final, 0.5)[:, 0].exp(),
    "log-probability": lambda final: MIXTURE.log_posterior(final, 0.5)[:, 0],
}


def final_of(denoiser: Denoiser, x: Tensor) -> Tensor:
    *_, final = Heun().steps(denoiser, VE(), x.clone(), TIMES)
    return final


def starts() -> Tensor:
    return 20.0 * torch.randn(24, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("measure", OUTCOMES)
@pytest.mark.parametrize("pair", PAIRS)
def test_sweeps_are_the_limit_of_weak_pulses_at_every_level(pair: str, measure: str) -> None:
    """A pulse at one level changes each trial's A by w times its derivative there, up to order w^2."""
    (own, guide), x, outcome = PAIRS[pair], starts(), OUTCOMES[measure]
    adjoint = Adjoint(lambda denoiser: final_of(denoiser, x), own, guide, LEVELS)
    gradient = adjoint.sweep(torch.zeros(len(x), len(LEVELS), dtype=torch.float64), outcome).gradient
    with torch.no_grad():
        rest = outcome(final_of(own, x))
        for place in range(len(LEVELS)):
            pulse = Guided(own, guide, AtLevels(LEVELS[place : place + 1], WEAK))
            change = (outcome(final_of(pulse, x)) - rest) / WEAK
            assert np.corrcoef(change, gradient[:, place])[0, 1] > 0.99, place
            assert float((change - gradient[:, place]).abs().max()) < 0.02 * float(gradient[:, place].abs().max())


@pytest.mark.parametrize("pair", PAIRS)
def test_a_schedule_s_weights_guide_as_those_of_a_sweep(pair: str) -> None:
    """Weights as a weight w(sigma) of Guided, and as numbers of the levels: the same samples, to rounding."""
    (own, guide), x = PAIRS[pair], starts()
    schedule = Weights(LEVELS, torch.tensor([0.0, 0.5, 2, 2, 0, 1, 1, 0, 3], dtype=torch.float64))
    adjoint = Adjoint(lambda denoiser: final_of(denoiser, x), own, guide, LEVELS)
    found = adjoint.guided(schedule.weights.expand(len(x), -1))
    with torch.no_grad():
        torch.testing.assert_close(found, final_of(Guided(own, guide, schedule), x))
