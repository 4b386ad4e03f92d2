"""What is made of trials' derivatives, by hand: shares of log sigma, gains, places, typical sizes, and alignments."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from softmode.cumulative import accumulated, rates, shortest
from softmode.experiments.susceptibility.adjoint_trials import Trials, edges_of, place_of, trials_of, typical
from softmode.experiments.susceptibility.outcomes import change_at_rest, class_outcome

# log sigma 4, 2, 0: half way to the neighbours, and one beyond the last
LEVELS = np.exp([4.0, 2.0, 0.0])


def stored(gradient: np.ndarray, share: np.ndarray, value: np.ndarray, weight: float) -> Any:
    """Stand for a run of some trials [trial, node, level] of one class."""
    arrays = {
        "level": ("level", LEVELS), "label": ("trial", np.zeros(len(value), int)),
        "gradient": (("trial", "node", "level"), gradient), "share": (("trial", "level"), share),
        "value": (("trial", "strength"), value),
    }  # fmt: skip
    return SimpleNamespace(dataset=xr.Dataset(arrays), config={"weight": weight})


def test_shares_of_log_sigma_are_the_trapezium_rule_s() -> None:
    trials = Trials(LEVELS, edges_of(LEVELS), *[np.zeros(0)] * 4)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.log(trials.edges), [4, 3, 1, -1])
    np.testing.assert_allclose(trials.widths, [1, 2, 2])


def test_gain_and_response_are_those_of_the_weight_in_use() -> None:
    """The gain is from the first strength to the last; the response the first node's derivative times w."""
    gradient, share = np.arange(12.0).reshape(2, 2, 3), np.arange(6.0).reshape(2, 3)
    trials = trials_of(stored(gradient, share, np.array([[1.0, 5.0, 2.0], [1.0, 5.0, 8.0]]), 3.0))
    assert trials.gain.tolist() == [1, 7]
    np.testing.assert_array_equal(trials.response, 3 * gradient[:, 0])
    np.testing.assert_array_equal(trials.share, share)
    assert trials.whole.all()
    assert trials.begun.all()


def test_a_trial_without_a_number_is_left_out_where_it_has_none() -> None:
    gradient, share, value = np.ones((3, 2, 3)), np.ones((3, 3)), np.ones((3, 2))
    gradient[0, 0, 1] = share[1, 2] = value[2, 1] = math.nan
    trials = trials_of(stored(gradient, share, value, 3.0))
    assert trials.begun.tolist() == [False, True, True]
    assert trials.whole.tolist() == [True, False, False]


@pytest.mark.parametrize("sign", [1, -1])
def test_most_and_80_percent_are_found_of_gains_and_of_losses(sign: int) -> None:
    """Of 0.05, 0.8 and 0.15 the middle level's share of log sigma holds 80 %, and no shorter interval does."""
    shares = np.tile(sign * np.array([0.05, 0.8, 0.15]), (6, 1))
    trials = Trials(LEVELS, edges_of(LEVELS), np.zeros(6, int), shares, shares, shares.sum(1))
    found = place_of(shares, trials, np.ones(6, bool))
    # on a grid of 16 points for each level
    assert [math.log(end.value) for end in (found.low, found.high)] == pytest.approx([1, 3], abs=5 / 48)
    assert math.e < found.top.value < math.e**3


def test_the_shortest_interval_begins_where_the_gain_does() -> None:
    """What is known at the first level is no gain; a loss before the gain is not in the interval."""
    levels = np.exp(np.arange(4.0, -1.0, -1.0))
    for known in (np.array([5.0, 5, 5, 6, 6]), np.array([0.0, -1, -1, 0.5, 0.5])):
        found = shortest(known, levels, 0.8)
        assert 1 <= math.log(found.low) < math.log(found.high) <= 2
    curve = np.array([0.0, 1.0, 3.0, 3.5, 3.5])
    np.testing.assert_allclose(rates(curve, levels), [1, 2, 0.5, 0])
    np.testing.assert_allclose(accumulated(np.array([0.0, 2, 2, 0, 0]), levels), [0, 1, 3, 4, 4])


def test_a_trimmed_mean_leaves_out_both_sides() -> None:
    values = np.array([-100.0, *[1.0] * 6, 2.0, 3.0, 1000.0])
    found = typical(values, np.zeros(10, int))
    assert found.trimmed.value == pytest.approx(11 / 8)
    assert found.median.value == 1
    assert found.top.value == pytest.approx(1000 / np.abs(values).sum())


def test_alignments_are_of_the_class_itself() -> None:
    """Of three classes with known probabilities; log-odds are clipped on both sides at those of 99 %."""
    p = torch.tensor([[0.2, 0.5, 0.3], [0.001, 0.998, 0.001], [0.6, 0.001, 0.399]], dtype=torch.float64)
    guidance: Any = SimpleNamespace(classifier=lambda final: p.log().to(final))
    final = torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    of = {name: class_outcome(guidance, 1, name)(final) for name in ("probability", "log-probability", "logit")}
    np.testing.assert_allclose(of["probability"], p[:, 1], rtol=1e-5)
    np.testing.assert_allclose(of["log-probability"], p[:, 1].log(), rtol=1e-5)
    np.testing.assert_allclose(of["logit"], [0, math.log(99), -math.log(99)], atol=1e-6)


def test_the_rms_change_at_rest_is_that_of_the_motion() -> None:
    """Along the motion of four values a step of 0.1 in each is an rms of 0.1; across it, none."""
    motion = torch.tensor([[[[1.0, 1], [1, 1]]], [[[1, 1], [-1, -1]]]], dtype=torch.float64)
    final = torch.zeros(2, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(change_at_rest(motion)(final).sum(), final)
    assert (gradient * 0.1).sum((1, 2, 3)).tolist() == pytest.approx([0.1, 0.0])
    assert float((gradient * motion).sum()) == pytest.approx(2.0)
