"""What is compared: the schedule in its forms, and other ways to spend the same."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.estimate import Array
from softmode.experiments.pulse.trials import SAMPLER, Condition, fixed
from softmode.experiments.schedule.config import Config
from softmode.experiments.susceptibility.adjoint_trials import edges_of
from softmode.guidance.planning import Budget
from softmode.guidance.weights import Interval, Weights
from softmode.message import refusal

UNGUIDED, CONSTANT, ALL, PUBLISHED, BEST = "unguided", "constant", "all", "published", "grid"
OURS = "ours"


def widths_of(levels: Float[Tensor, " level"]) -> Float[Array, " level"]:
    """Return the share of log sigma of each level."""
    return -np.diff(np.log(edges_of(levels.numpy())))


def budget_of(config: Config) -> Budget:
    """Return the budget of a config."""
    return Budget(config.guided_steps, config.weight, config.dose)


def unguided() -> Condition:
    """Return no guidance."""
    return Condition(UNGUIDED, "no guidance", "H.4", None)


def scheduled(name: str, levels: Float[Tensor, " level"], weights: Float[Array, " level"], source: str) -> Condition:
    """Return guidance of a weight at each level."""
    schedule = Weights(levels, torch.from_numpy(np.asarray(weights, float)))
    return Condition(name, told(levels.numpy(), weights), source, fixed(schedule))


def told(levels: Float[Array, " level"], weights: Float[Array, " level"]) -> str:
    """Return a schedule in words."""
    guided = np.flatnonzero(weights)
    own = weights[guided]
    size = f"{own[0]:.3g}" if np.allclose(own, own[0]) else f"{own.min():.3g} to {own.max():.3g}"
    ends = f"sigma from {levels[guided[0]]:.3g} to {levels[guided[-1]]:.3g}"
    apart = "" if len(guided) == guided[-1] - guided[0] + 1 else ", not all between"
    many = f"{len(guided)} level{'' if len(guided) == 1 else 's'}"
    return f"w = {size} at {many}, {ends}{apart}"


def spread(levels: Float[Tensor, " level"], weights: Float[Array, " level"]) -> Float[Array, " level"]:
    """Return constant guidance with the same sum of weights over the sampler's calls."""
    calls = SAMPLER.calls(torch.cat([levels, levels.new_zeros(1)]))[:-1].numpy()
    return np.full(len(levels), float(calls @ weights) / float(calls.sum()))


def span(levels: Float[Tensor, " level"], first: int, last: int, budget: Budget) -> Float[Array, " level"]:
    """Return the highest weight that fits at the levels from one to another, by index, both included."""
    weights = np.zeros(len(levels))
    weights[first : last + 1] = budget.weight(float(widths_of(levels)[first : last + 1].sum()))
    return weights


def published(config: Config, levels: Float[Tensor, " level"]) -> Float[Array, " level"]:
    """Return a given interval within the budget: of more levels than it has, those in the middle.

    Raises:
        ValueError: If no level falls into it.
    """
    low, high = config.interval
    inside = np.flatnonzero(Interval(low, high)(levels).numpy())
    if not len(inside):
        raise refusal(
            f"interval: got {low:g} to {high:g}; expected one that holds a level of the sampler: use more steps"
        )
    left = max(len(inside) - config.guided_steps, 0) // 2
    kept = inside[left : left + config.guided_steps]
    return span(levels, int(kept[0]), int(kept[-1]), budget_of(config))


def pairs_of(count: int, longest: int, wanted: int) -> list[tuple[int, int]]:
    """Return about so many intervals as pairs of levels by index, first and last.

    All of them where these are not too many; then every second length, from the longest down, or every third and so on;
    of the longest alone, every second place.

    Args:
        count: Number of levels.
        longest: Most levels of an interval.
        wanted: About how many.
    """

    def every(length_step: int, place_step: int) -> list[tuple[int, int]]:
        return [
            (first, first + length - 1)
            for length in range(longest, 0, -length_step)
            for first in range(0, count - length + 1, place_step)
        ]

    found = every(1, 1)
    for step in range(2, longest + 1):
        if len(found) <= 1.2 * wanted:
            break
        found = every(step, 1)
    return found if len(found) <= 1.2 * wanted else every(longest, -(-len(found) // wanted))
