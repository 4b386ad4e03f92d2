"""Schedules within a budget: the best of all intervals and sets, by brute force, and of all weights by another way."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from softmode.guidance.planning import FREE, INTERVAL, STEPS, Budget, planned

COUNT = 7


def levels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return gains of either sign, and widths."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1.0, COUNT), rng.uniform(0.1, 1.0, COUNT)


def alike(gains: np.ndarray, widths: np.ndarray, budget: Budget, chosen: list[int]) -> float:
    """Return the gain of some levels of one weight."""
    dose = np.inf if budget.dose is None else budget.dose
    return float(min(budget.largest, np.sqrt(dose / widths[chosen].sum())) * gains[chosen].sum())


BUDGETS = [Budget(3, 2.0), Budget(COUNT, 0.5), Budget(1, 2.0, 0.3), Budget(3, 2.0, 0.7), Budget(4, 2.0, 5.0)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("budget", BUDGETS)
def test_one_weight_is_put_where_it_gains_most(budget: Budget, seed: int) -> None:
    """No interval and no set of levels gains more, and none breaks the budget."""
    gains, widths = levels(seed)
    found = planned(gains, widths, budget)
    spans = [[*range(i, j)] for i in range(COUNT) for j in range(i + 1, min(i + budget.steps, COUNT) + 1)]
    sets = [[*each] for size in range(1, budget.steps + 1) for each in combinations(range(COUNT), size)]
    for form, every in ((INTERVAL, spans), (STEPS, sets)):
        own = found[form]
        assert own.gain == pytest.approx(max(alike(gains, widths, budget, each) for each in every))
        assert own.gain == pytest.approx(own.weights @ gains)
        guided = np.flatnonzero(own.weights)
        assert len(guided) <= budget.steps
        assert len(set(own.weights[guided])) == 1
        assert own.weights.max() <= budget.largest
        if budget.dose is not None:
            assert own.weights**2 @ widths <= budget.dose * (1 + 1e-9)
        if form == INTERVAL:
            assert guided[-1] - guided[0] == len(guided) - 1


def constrained(gains: np.ndarray, widths: np.ndarray, budget: Budget, chosen: list[int]) -> float:
    """Return the gain of the best weights of some levels, by a general minimiser."""
    g, d, dose = gains[chosen], widths[chosen], budget.dose or 0.0
    start = np.full(len(g), min(budget.largest, np.sqrt(dose / d.sum())) / 2)
    bound = {"type": "ineq", "fun": lambda w: dose - w**2 @ d}
    found = minimize(lambda w: -w @ g, start, method="SLSQP", bounds=[(0, budget.largest)] * len(g), constraints=bound)
    return float(-found.fun)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [each for each in BUDGETS if each.dose is not None])
def test_free_weights_are_those_of_a_general_minimiser(budget: Budget, seed: int) -> None:
    """The best over every set of levels; free weights gain at least what one weight does."""
    gains, widths = levels(seed)
    found = planned(gains, widths, budget)
    sets = [[*each] for each in combinations(np.flatnonzero(gains > 0).tolist(), min(budget.steps, (gains > 0).sum()))]
    own = found[FREE]
    assert own.gain >= (1 - 1e-3) * max(constrained(gains, widths, budget, each) for each in sets)
    assert own.gain >= found[STEPS].gain * (1 - 1e-9)
    assert np.count_nonzero(own.weights) <= budget.steps
    assert own.weights.max() <= budget.largest * (1 + 1e-9)
    assert own.weights**2 @ widths <= (budget.dose or 0.0) * (1 + 1e-6)


def test_without_a_dose_free_weights_are_steps_and_left_out() -> None:
    assert planned(*levels(0), Budget(3, 2.0)).keys() == {INTERVAL, STEPS}


@pytest.mark.parametrize("gains", [np.full(COUNT, -1.0), np.zeros(COUNT), np.full(COUNT, np.nan)])
def test_no_gain_makes_no_schedule(gains: np.ndarray) -> None:
    """Nothing is made up where no level gains, or where what one gains is not known."""
    assert planned(gains, levels(0)[1], Budget(3, 2.0, 1.0)) == {}
    assert planned(np.append(levels(0)[0][:-1], np.nan), levels(0)[1], Budget(3, 2.0)) == {}
