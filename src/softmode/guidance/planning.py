r"""Schedules of guidance of the greatest predicted gain within a budget.

A gain that is linear in the weights, $\sum_i g_i w_i$, is made as large as a budget lets it: at most N guided levels,
at most a largest weight, and at most a dose $\sum_i w_i^2 d_i$, where $d_i$ is a level's share of log sigma.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq

from softmode.estimate import Array

# forms of a schedule: consecutive levels of one weight, any levels of one weight, any weights
INTERVAL, STEPS, FREE = "interval", "steps", "free"
# prices of a dose at which sets of levels are compared, and how far they reach beyond those where weights are cut
PRICES, BEYOND = 400, 1e3


@dataclass(frozen=True)
class Budget:
    """What a schedule may spend.

    Args:
        steps: Most levels that are guided, at least 1.
        largest: Largest weight, above 0.
        dose: Largest sum of w^2 d log sigma; None for no bound.
    """

    steps: int
    largest: float
    dose: float | None = None

    def weight(self, width: float) -> float:
        """Return the highest weight that guides levels of so much log sigma alike."""
        return self.largest if self.dose is None else min(self.largest, math.sqrt(self.dose / width))


class Planned(NamedTuple):
    """A schedule, and what it is predicted to gain.

    Attributes:
        weights: Weight at each level [level].
        gain: Predicted gain, the sum of g_i w_i.
    """

    weights: Float[Array, " level"]
    gain: float


def planned(gains: Float[Array, " level"], widths: Float[Array, " level"], budget: Budget) -> dict[str, Planned]:
    """Return the schedules of the greatest predicted gain, by their form.

    Args:
        gains: Gain of each level per unit of weight g_i.
        widths: Shares of log sigma d_i.
        budget: What they may spend.

    Returns:
        `interval`, `steps` and, where a dose bounds its weights, `free`; none where no level gains, or it is not known
        what one does.
    """
    if not np.isfinite(gains).all() or not (gains > 0).any():
        return {}
    found = {INTERVAL: interval(gains, widths, budget), STEPS: steps(gains, widths, budget)}
    if budget.dose is not None:
        found[FREE] = free(gains, widths, budget)
    return found


def interval(gains: Float[Array, " level"], widths: Float[Array, " level"], budget: Budget) -> Planned:
    """Return the best consecutive levels of one weight; the arguments are those of `planned`."""
    count = len(gains)
    spans = [
        np.arange(count)[first : first + length]
        for length in range(1, min(budget.steps, count) + 1)
        for first in range(count - length + 1)
    ]
    return max((_alike(gains, widths, budget, span) for span in spans), key=lambda each: each.gain)


def steps(gains: Float[Array, " level"], widths: Float[Array, " level"], budget: Budget) -> Planned:
    """Return the best levels of one weight; the arguments are those of `planned`.

    Without a dose these are those that gain most. With one, sets are made level by level, and those are kept that gain
    more than every other of as many levels that takes no more of log sigma.
    """
    useful = np.flatnonzero(gains > 0)
    useful = useful[np.argsort(-gains[useful], kind="stable")]
    if budget.dose is None:
        return _alike(gains, widths, budget, useful[: budget.steps])
    # of each size: whether a set has each useful level [set, level]
    fronts = [np.zeros((1, len(useful)), bool)]
    for place in range(len(useful)):
        longer = [front.copy() for front in fronts[: budget.steps]]
        for front in longer:
            front[:, place] = True
        # of a new size there are only those with this level
        pairs = zip([*fronts[1:], np.zeros((0, len(useful)), bool)], longer, strict=False)
        fronts = [fronts[0], *(_front(np.concatenate(pair), gains[useful], widths[useful]) for pair in pairs)]
    every = np.concatenate(fronts[1:])
    return max((_alike(gains, widths, budget, useful[chosen]) for chosen in every), key=lambda each: each.gain)


def _front(
    sets: Bool[Array, "set useful"], gains: Float[Array, " useful"], widths: Float[Array, " useful"]
) -> Bool[Array, "kept useful"]:
    """Return the sets that gain more than every other that is no wider."""
    width, gain = sets @ widths, sets @ gains
    order = np.lexsort((-gain, width))
    best = np.maximum.accumulate(np.concatenate([[-math.inf], gain[order][:-1]]))
    kept: Bool[Array, "kept useful"] = sets[order[gain[order] > best]]
    return kept


def free(gains: Float[Array, " level"], widths: Float[Array, " level"], budget: Budget) -> Planned:
    r"""Return the best weights within a dose, $w_i = \mathrm{clip}(g_i/(2\lambda d_i), 0, \mathrm{largest})$.

    At a price lambda of the dose each level is worth what it gains less what it spends. The levels that are worth most
    are found at many prices; the best of these sets, each at its own price, is returned.

    Args:
        gains: Gain of each level per unit of weight g_i.
        widths: Shares of log sigma d_i.
        budget: What the weights may spend; its dose is not None.
    """
    positive = gains > 0
    cut = gains[positive] / (2 * widths[positive] * budget.largest)
    sets = set()
    for price in np.geomspace(cut.min() / BEYOND, cut.max() * BEYOND, PRICES):
        weights = np.clip(gains / (2 * price * widths), 0, budget.largest)
        worth = weights * gains - price * weights**2 * widths
        sets.add(tuple(sorted(np.argsort(-worth, kind="stable")[: budget.steps])))
    found = [_within(gains, widths, budget, np.array(chosen)[positive[list(chosen)]]) for chosen in sorted(sets)]
    return max(found, key=lambda each: each.gain)


def _alike(gains: Float[Array, " level"], widths: Float[Array, " level"], budget: Budget, chosen: Array) -> Planned:
    """Return some levels, all of the highest weight that fits."""
    weights = np.zeros(len(gains))
    weights[chosen] = budget.weight(float(widths[chosen].sum()))
    return Planned(weights, float(weights @ gains))


def _within(gains: Float[Array, " level"], widths: Float[Array, " level"], budget: Budget, chosen: Array) -> Planned:
    """Return the best weights of some levels that gain, within the dose."""
    g, d = gains[chosen], widths[chosen]
    assert budget.dose is not None

    def at(log_price: float) -> Array:
        return np.clip(g / (2 * math.exp(log_price) * d), 0, budget.largest)

    def left(log_price: float) -> float:
        return float(at(log_price) ** 2 @ d) - float(budget.dose or 0)

    weights = np.zeros(len(gains))
    full = math.log((g / (2 * d * budget.largest)).min())
    if left(full) <= 0:
        weights[chosen] = budget.largest
    else:
        # no weight is cut at a price at which the dose suffices even without a largest
        enough = math.log(math.sqrt(float((g**2 / d).sum()) / budget.dose) / 2)
        weights[chosen] = at(brentq(left, full, max(enough, full) + 1e-9, xtol=1e-13))
    return Planned(weights, float(weights @ gains))
