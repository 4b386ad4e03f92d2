"""Which levels each condition of a pulse experiment guides."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.guidance import CONDITIONS, PULSE
from softmode.experiments.pulse.conditions import MOST, build
from softmode.experiments.pulse.config import Config
from softmode.process import rho_grid
from softmode.samplers import Heun

LEVELS = rho_grid(levels=32)


def settled(**changes: Any) -> Config:
    return replace(PULSE, **{"half_width": 1.5} | changes)


def weights(name: str, trials: range) -> Tensor:
    """Return the weight of every trial of class 1 at every level under a condition."""
    (condition,) = (c for c in build(settled(), LEVELS, (1.0, 6.0)) if c.name == name)
    assert condition.weight is not None
    weight = condition.weight(1, trials)
    return torch.stack([weight(level).expand(len(trials)) for level in LEVELS], 1)


def test_the_whole_window_is_one_more_where_it_is_known() -> None:
    assert [c.name for c in build(settled(), LEVELS, (1.0, 6.0))] == CONDITIONS
    assert [c.name for c in build(settled(), LEVELS, None)] == [name for name in CONDITIONS if name != "window"]
    assert len(CONDITIONS) == MOST


def test_fixed_conditions_guide_the_levels_that_they_say() -> None:
    inside = ((LEVELS > 1.5) & (LEVELS <= 4.5)).double()
    count = int(inside.sum())
    assert count > 2
    assert torch.equal(weights("critical", range(2)), 1.5 * inside.expand(2, -1))
    assert torch.equal(weights("window", range(1))[0], 1.5 * ((LEVELS > 1) & (LEVELS <= 6)).double())
    assert torch.equal(weights("interval", range(1))[0], 1.5 * ((LEVELS > 0.19) & (LEVELS <= 1.61)).double())
    spread = weights("spread", range(1))[0].nonzero().flatten()
    assert len(spread) == count
    gaps = spread.diff()
    assert int(gaps.max() - gaps.min()) <= 1
    constant = weights("constant", range(1))[0]
    assert (constant == constant[0]).all()
    calls = Heun().calls(torch.cat([LEVELS, torch.zeros(1)]))[:-1].double()
    assert float((constant * calls).sum()) == pytest.approx(float((1.5 * inside * calls).sum()))


def test_random_pulses_have_the_critical_one_s_width_in_their_own_coordinate() -> None:
    """Places are uniform there: quartiles over 2000 trials within 4 standard errors, which are small."""
    trials = range(2000)
    conditions = {c.name: c for c in build(settled(), LEVELS, None)}
    ends = {n: conditions[n].weight(1, trials) for n in ("random", "random_log")}
    sigma, log = ends["random"], ends["random_log"]
    centre = sigma.high - 1.5
    assert torch.allclose(sigma.low, (centre - 1.5).clamp(min=0))
    assert torch.allclose((log.high / log.low).log(), torch.tensor(math.log(3.0), dtype=torch.float64))
    for values, first, last in (
        (centre, 0.002, 80.0), ((log.high * log.low).sqrt().log(), math.log(0.002), math.log(80.0)),
    ):  # fmt: skip
        share = (values - first) / (last - first)
        assert 0 <= float(share.min()) < float(share.max()) <= 1
        for quartile in (0.25, 0.5, 0.75):
            error = math.sqrt(quartile * (1 - quartile) / 2000)
            assert error < 0.012
            assert abs(float((share < quartile).double().mean()) - quartile) < 4 * error
    steps = weights("random_step", trials) != 0
    count = int((weights("critical", range(1)) != 0).sum())
    assert (steps.sum(1) == count).all()
    assert {int(row.nonzero()[-1] - row.nonzero()[0]) for row in steps} == {count - 1}, "consecutive"
    assert steps.any(0).all(), "the first and the last levels too"


def test_a_random_place_belongs_to_its_trial() -> None:
    (condition,) = (c for c in build(settled(), LEVELS, None) if c.name == "random")
    assert condition.weight is not None
    every, some = condition.weight(1, range(5)), condition.weight(1, [3])
    assert every.high[3] == some.high[0]
    assert len(set(every.high.tolist())) == 5
    assert condition.weight(2, [3]).high[0] != some.high[0]
