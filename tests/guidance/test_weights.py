"""Weights w(sigma): which levels an interval, a pulse or a list guides, at their ends too."""

import math

import pytest
import torch

from softmode.denoiser import Guided
from softmode.guidance.weights import AtLevels, Interval, Pulses, Weights, guided_steps, log_pulse, sigma_pulse
from softmode.process import rho_grid


def test_an_interval_is_open_below_and_closed_above() -> None:
    sigma = torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5], dtype=torch.float64)
    assert Interval(1.0, 2.0, 0.7)(sigma).tolist() == [0.0, 0.0, 0.7, 0.7, 0.0]
    assert float(Interval(1.0, 2.0)(torch.tensor(2.0))) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ulps", [-2, -1, 0, 1, 2])
def test_a_level_that_equals_an_end_up_to_rounding_is_that_end(ulps: int, dtype: torch.dtype) -> None:
    """Two float32 steps beside an end change nothing, while a thousandth is another level; adjoining windows tile."""
    below, above = Interval(0.4, 1.7, 2.0), Interval(1.7, 14.6146466, 2.0)
    ends = torch.tensor([0.4, 1.7, 14.6146466], dtype=torch.float32)
    for _ in range(abs(ulps)):
        ends = torch.nextafter(ends, torch.tensor(math.copysign(math.inf, ulps)))
    assert below(ends.to(dtype)).tolist() == [0.0, 2.0, 0.0]
    assert above(ends.to(dtype)).tolist() == [0.0, 0.0, 2.0]
    assert above(ends.to(dtype) * (1 + 1e-3)).tolist() == [0.0, 2.0, 0.0]
    assert above(ends.to(dtype) * (1 - 1e-3)).tolist() == [0.0, 0.0, 2.0]


@pytest.mark.parametrize("shift", [-1e-12, 0.0, 1e-12])
def test_pulses_of_a_float64_grid_have_its_levels_as_their_ends(shift: float) -> None:
    """Ends that are levels but for a round trip through another coordinate guide the same levels."""
    levels = rho_grid(levels=8)
    ends = levels * (1 + shift)
    pulses = Pulses(ends[[5, 3]], ends[[2, 0]], 1.0)
    table = torch.stack([pulses(level) for level in levels], 1)
    assert [row.nonzero().flatten().tolist() for row in table] == [[2, 3, 4], [0, 1, 2]]


def test_an_interval_without_ends_guides_every_level() -> None:
    assert Interval(0.0, math.inf, 3.0)(torch.tensor([1e-30, 1.0, math.inf])).tolist() == [3.0, 3.0, 3.0]


def test_a_guide_is_called_inside_the_interval_alone() -> None:
    """As the weight of a guided denoiser: the extrapolation inside, the denoiser itself outside."""
    calls = []

    def guide(x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        calls.append(float(torch.as_tensor(sigma)))
        return torch.zeros_like(x)

    guided = Guided(lambda x, _s: 0.5 * x, guide, Interval(1.0, 2.0, 3.0))
    x = torch.ones(1, 1, 2, 2)
    outs = [float(guided(x, sigma).mean()) for sigma in (0.5, 1.5, 3.0)]
    assert outs == [0.5, 2.0, 0.5]
    assert calls == [1.5]


@pytest.mark.parametrize(
    ("low", "high", "weight", "message"),
    [
        (2.0, 1.0, 1.0, r"interval: got \(2, 1\]"),
        (-1.0, 1.0, 1.0, "interval: got"),
        (1.0, 2.0, math.nan, "weight: got nan"),
    ],
)
def test_impossible_intervals_are_refused(low: float, high: float, weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interval(low, high, weight)


def test_pulses_have_their_width_in_their_coordinate() -> None:
    pulse = sigma_pulse(3.0, 1.0, 2.0)
    assert (pulse.low, pulse.high, pulse.weight) == (2.0, 4.0, 2.0)
    assert sigma_pulse(0.5, 1.0, 1.0).low == 0
    pulse = log_pulse(3.0, math.log(4), 2.0)
    assert (pulse.low, pulse.high) == pytest.approx((1.5, 6.0))


def test_pulses_of_a_batch_are_each_an_interval() -> None:
    """At one level or at one for each; one without ends guides nothing."""
    low, high = torch.tensor([[1.0, 2.0], [math.nan, math.nan], [0.0, math.inf]]).T.double()
    pulses = Pulses(low, high, 3.0)
    for level in (0.5, 1.0, 1.5, 2.0, 2.5):
        expected = [float(Interval(1.0, 2.0, 3.0)(torch.tensor(level))), 0.0, 3.0]
        assert pulses(torch.tensor(level, dtype=torch.float64)).tolist() == expected
    assert pulses(torch.tensor([1.5, 1.5, 1.5], dtype=torch.float64)).tolist() == [3.0, 0.0, 3.0]


def test_guidance_at_levels_is_at_these_alone() -> None:
    levels = rho_grid(levels=8)
    weight = AtLevels(levels[[2, 5]], 1.5)
    assert torch.stack([weight(level) for level in levels]).tolist() == [0, 0, 1.5, 0, 0, 1.5, 0, 0]
    assert float(weight(levels[2] * (1 + 1e-3))) == 0
    assert weight(levels.float().double()).tolist() == [0, 0, 1.5, 0, 0, 1.5, 0, 0], "up to float32"


def test_between_levels_the_weight_is_that_of_the_nearest_in_log_sigma() -> None:
    levels = torch.tensor([16.0, 4.0, 1.0], dtype=torch.float64)
    weight = Weights(levels, torch.tensor([3.0, 0.0, 5.0], dtype=torch.float64))
    assert weight(levels.float()).tolist() == [3, 0, 5]
    assert weight(torch.tensor([[80.0, 8.1], [7.9, 2.1], [1.9, 0.01]])).tolist() == [[3, 3], [0, 0], [5, 5]]
    assert float(weight(levels[0])) == 3


def test_an_interval_between_two_steps_is_an_error() -> None:
    levels = rho_grid(levels=8)
    with pytest.raises(ValueError, match=r"sampler_steps: none of these 8 falls into \(2.6, 3\]; the nearest are at"):
        guided_steps(Interval(2.6, 3.0), levels)
