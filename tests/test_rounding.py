"""Ends of ranges are met up to rounding: what a round trip or another processor makes of them is still in the range."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from softmode.beta import Custom, Linear
from softmode.estimate import Estimate
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.maximum import contains
from softmode.experiments.susceptibility.pulses_measure import build
from softmode.formulas.guided_flow import pulse_response, susceptibility
from softmode.guidance.weights import Interval
from softmode.levels import check_levels
from softmode.model import Model
from softmode.process import VE, VP, log_grid, rho_grid
from softmode.rounding import GRID, above, within
from softmode.runs.results import Results
from softmode.samplers import check_start
from softmode.simulation import nearest_steps

TIMES = log_grid(50.0, 1e-3, 40)
LEVELS = rho_grid(levels=64)
FLOAT32 = (14.6146466, 0.0291675)
MODEL = Model("short", VE(), (1, 8, 8), lambda _label: lambda x, _sigma: x, levels=FLOAT32[::-1])
START = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("rounding", [1e-9, 1e-6])
def test_an_end_is_met_within_its_rounding_alone(rounding: float) -> None:
    """On both sides, of numbers and of tensors; infinite ends are ends, NaN is nowhere."""
    values = [0.2 * (1 - 2 * rounding), 0.2 * (1 - rounding / 2), 3 * (1 + rounding / 2), 3 * (1 + 2 * rounding)]
    expected = [False, True, True, False]
    assert [within(value, 0.2, 3.0, rounding) for value in values] == expected
    assert within(torch.tensor(values, dtype=torch.float64), 0.2, 3.0, rounding).tolist() == expected
    assert [above(value, 3.0, rounding) for value in values] == [False, False, False, True]
    assert above(torch.tensor(values, dtype=torch.float64), 0.2, rounding).tolist() == [False, False, True, True]
    assert within(math.inf, 0.0, math.inf)
    assert within(0.0, 0.0, 1.0)
    assert not within(math.nan, 0.0, math.inf)
    assert not above(math.inf, math.inf)
    assert within(np.float64(3.0), 0.0, 3.0) is True


def start(end: float) -> None:
    check_start(VP(Linear()), end, torch.float64)


def steps(end: float) -> list[int]:
    return nearest_steps("times", (end,), TIMES)


def levels(end: float) -> None:
    check_levels(MODEL, end, 0.1)


def lowest(end: float) -> None:
    check_levels(MODEL, 1.0, end)


def centres(end: float) -> int:
    return len(build(Config(model="tiny", lowest=0.1, highest=end, centres=3, width=1.0), LEVELS))


def response(end: float) -> None:
    pulse_response(Interval(1.0, end), START, 1.0, 1.0, 8.0)


def chi(end: float) -> None:
    susceptibility(torch.tensor([1.0, end], dtype=torch.float64), 1.0, 1.0, 8.0)


@pytest.mark.parametrize(
    ("check", "end", "rounding"),
    [
        (start, 1.0, 1e-9), (steps, 50.0, 1e-9), (steps, 1e-3, 1e-9), (levels, FLOAT32[0], 1e-6),
        (lowest, FLOAT32[1], 1e-6), (centres, 80.0, 1e-6), (response, 8.0, 1e-9), (chi, 8.0, 1e-9),
    ],
)  # fmt: skip
def test_every_range_takes_its_ends_up_to_rounding(check: Callable[[float], Any], end: float, rounding: float) -> None:
    """The last digits of an end give the same answer on either side; a thousandth beyond is refused."""
    same = [check(end * (1 + share * rounding)) for share in (-0.3, 0.0, 0.3)]
    assert same[0] == same[1] == same[2]
    outside = 1 - 1e-3 if check is lowest or end < 0.01 else 1 + 1e-3
    with pytest.raises(ValueError, match=r"expected|knows"):
        check(end * outside)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", [Linear(), Linear(0.3, 7.0), Custom(lambda t: 1 + t**2, t_end=2.0)])
def test_the_end_of_a_schedule_survives_a_round_trip(schedule: Any, dtype: torch.dtype) -> None:
    """Its last noise level is reached at its last time, although the root may come out a digit later; no other is."""
    process, end = VP(schedule), torch.tensor(schedule.t_end, dtype=dtype)
    level = process.noise_level(end)
    eps = torch.finfo(dtype).eps
    for ulps in (-2, -1, 0, 1, 2):
        assert float(process.time(level * (1 + ulps * eps))) == pytest.approx(schedule.t_end, rel=1e-5)
    assert process.time(level * 1.01).isnan()


def maximum(value: float, low: float, high: float) -> Results:
    """Stand for a susceptibility run by where its chi of the logit is largest."""
    return Results("", values={"argmax": {"logit": Estimate(value, 0.0, 4, low, high)}})


@pytest.mark.parametrize("ulps", [-2, -1, 0, 1, 2])
def test_a_maximum_at_an_end_of_the_window_lies_where_its_rule_says(ulps: int) -> None:
    """Windows are open below and closed above: a maximum at the upper end is inside, one at the lower outside."""
    for level, inside in ((0.4, False), (7.3, True)):
        moved = level * (1 + ulps * np.finfo(float).eps)
        (found,) = contains((0.4, 7.3), maximum(moved, moved, moved))
        assert (found.inside, found.certain) == (inside, True)
        assert abs(moved / level - 1) < GRID


def test_a_maximum_without_its_window_is_neither() -> None:
    (found,) = contains(None, maximum(1.0, 0.9, 1.1))
    assert (found.inside, found.certain) == (None, False)
