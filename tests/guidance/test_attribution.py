"""Shares of what guidance gains: known integrals, abrupt samples, what has no derivative, and every trial by itself."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.exact.mixture import GaussianMixture
from softmode.guidance.adjoint import Adjoint, Sweep
from softmode.guidance.attribution import attribute, strengths
from softmode.process import VE, rho_grid
from softmode.samplers import Heun

WEIGHTS = torch.tensor([[2.0, 1.0, 0.5], [1.0, 0.0, 3.0]], dtype=torch.float64)
SLOPES = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)


class Sigmoid:
    r"""A scalar $A = \tanh(k (s \cdot w - c))$ of the weights of each trial, and its sweeps."""

    def __init__(self, steep: float, centre: Tensor, weights: Tensor = WEIGHTS) -> None:
        self.steep, self.centre, self.weights = steep, centre, weights
        self.calls = 0

    def __call__(self, rows: list[int], share: Tensor) -> Sweep:
        """Return A at shares of the weights, and its derivatives."""
        self.calls += len(rows)
        value = torch.tanh(self.steep * ((share[:, None] * self.weights[rows]) @ SLOPES - self.centre[rows]))
        return Sweep(value[:, None, None], value, self.steep * (1 - value.square())[:, None] * SLOPES)

    def exact(self) -> Tensor:
        """Return each level's gain: all derivatives have one proportion, so shares are those of w_i s_i."""
        ends = self(list(range(len(self.weights))), torch.ones(len(self.weights), dtype=torch.float64)).value
        start = torch.tanh(-self.steep * self.centre)
        part = self.weights * SLOPES
        return (ends - start)[:, None] * part / part.sum(1, keepdim=True)


@pytest.mark.parametrize("steep", [0.2, 3.0, 40.0, 100.0])
def test_shares_are_those_of_the_integral_however_abrupt(steep: float) -> None:
    """A sample that changes within a hundredth of the way has its levels' shares like a smooth one."""
    sweep = Sigmoid(steep, torch.tensor([0.4, 1.7], dtype=torch.float64))
    found = attribute(sweep, WEIGHTS, tolerance=1e-3)
    assert np.abs(found.share - sweep.exact().numpy()).max() < 4e-3
    assert np.abs(found.defect).max() < 4e-3


def test_a_gentle_response_takes_no_further_sweeps() -> None:
    sweep = Sigmoid(1e-3, torch.tensor([0.4, 1.7], dtype=torch.float64))
    found = attribute(sweep, WEIGHTS, nodes=3)
    assert found.extra.tolist() == [0, 0]
    assert sweep.calls == 6
    assert [float(each.value[0]) for each in found.sweeps] == pytest.approx(
        [math.tanh(1e-3 * (2.5 * share - 0.4)) for share in strengths(3)]
    )


def test_a_closer_tolerance_takes_more_sweeps_and_misses_less() -> None:
    sweep = Sigmoid(8.0, torch.tensor([0.4, 1.7], dtype=torch.float64))
    rough, fine = (attribute(sweep, WEIGHTS, nodes=3, tolerance=each) for each in (0.3, 1e-4))
    assert np.abs(fine.defect).max() < 5e-4
    assert (fine.extra > rough.extra).all()
    assert np.abs(fine.defect).max() < np.abs(rough.defect).max()


def test_a_trial_is_refined_by_itself() -> None:
    """Its shares are the same alone and beside another, and only the abrupt one takes further sweeps."""
    centre, weights = torch.tensor([0.4, 50.0], dtype=torch.float64), WEIGHTS
    both = attribute(Sigmoid(20.0, centre), weights)
    alone = attribute(Sigmoid(20.0, centre[:1], weights[:1]), weights[:1])
    np.testing.assert_array_equal(both.share[:1], alone.share)
    assert both.extra[0] == alone.extra[0] > 0 == both.extra[1]


def test_what_has_no_derivative_is_nan_and_the_rest_is_kept() -> None:
    clean = Sigmoid(8.0, torch.tensor([0.4, 1.7], dtype=torch.float64))

    def sweep(rows: list[int], share: Tensor) -> Sweep:
        final, value, gradient = clean(rows, share)
        bad = (torch.tensor(rows) == 1)[:, None] & (torch.arange(3) == 2)
        return Sweep(final, value, torch.where(bad & (share > 0)[:, None], math.nan, gradient))

    found = attribute(sweep, WEIGHTS)
    assert np.isnan(found.share).tolist() == [[False] * 3, [False, False, True]]
    np.testing.assert_array_equal(found.share[0], attribute(clean, WEIGHTS).share[0])


@pytest.mark.parametrize("strength", [1.0, 10.0])
def test_a_mixtures_levels_add_up_to_what_guidance_gains(strength: float) -> None:
    """To 1 % of the largest gain of the probability of the class, where a strong guidance saturates it."""
    mixture = GaussianMixture(torch.tensor([[[2.0, 1.0]], [[-2.0, -1.0]]], dtype=torch.float64), 1.0)
    levels = rho_grid(levels=24)
    times = torch.cat([levels, levels.new_zeros(1)])
    x = 80 * torch.randn(12, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.full((12, 24), strength, dtype=torch.float64)

    def probability(final: Tensor) -> Tensor:
        return mixture.log_posterior(final, 0.1)[:, 0].exp()

    def sweep(rows: list[int], share: Tensor) -> Sweep:
        def sample(guided: Denoiser) -> Tensor:
            *_, final = Heun().steps(guided, VE(), x[rows], times)
            return final

        adjoint = Adjoint(sample, mixture.denoiser(), mixture.denoiser(1), levels)
        return adjoint.sweep(share[:, None] * weights[rows], probability)

    found = attribute(sweep, weights, tolerance=1e-3)
    gain = (found.sweeps[-1].value - found.sweeps[0].value).numpy()
    assert gain.max() > 0.5
    assert np.abs(found.defect).max() < 0.01 * gain.max()
