"""The plan of a schedule: a search on trials of its own, and a test of what it finds on fresh ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from softmode.bounds import check
from softmode.estimate import Array
from softmode.experiments.pulse.measure import ConditionsPlan
from softmode.experiments.pulse.trials import Condition, find_guidance
from softmode.experiments.schedule.conditions import (
    ALL,
    BEST,
    CONSTANT,
    OURS,
    PUBLISHED,
    budget_of,
    published,
    scheduled,
    span,
    spread,
    unguided,
)
from softmode.experiments.schedule.config import Config
from softmode.experiments.schedule.rounds import GRID, SCHEDULE, SEARCH, best_of, grid_of, rounds_of
from softmode.experiments.schedule.search import GridPlan, TriedPlan, grid_plan, provisional, search_plan
from softmode.experiments.susceptibility.adjoint_measure import check_differentiable
from softmode.experiments.susceptibility.outcomes import CHANGE, class_outcome
from softmode.guidance.weights import Interval
from softmode.message import refusal
from softmode.runs.experiment import Constants, Experiment, Plan
from softmode.runs.layout import constant
from softmode.runs.run import Run

REMEDY = "use another, or --alignment change, which needs none"


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "SchedulePlan":
    """Check a config and build what it describes.

    Args:
        config: What to guide, and what that may cost.
        given: The `model`, the `guide` (a Model) and the `classifier` (an ImageClassifier) that are at hand.

    Raises:
        ValueError: If any field is out of range, or a model or classifier cannot be used or differentiated.
    """
    check(config)
    if config.guided_steps > config.steps:
        raise refusal(
            f"guided_steps: got {config.guided_steps}; expected at most {config.steps}, the levels of the sampler: use "
            "fewer, or more --steps"
        )
    # for its checks, before anything is loaded
    Interval(*config.interval)
    guidance = find_guidance(config, given or {})
    published(config, guidance.levels)
    outcome = None if config.alignment == CHANGE else class_outcome(guidance, guidance.labels[0], config.alignment)
    check_differentiable(guidance, outcome, REMEDY)
    # the widest schedule of the budget, spread over all levels
    some = provisional(config, len(guidance.levels))
    way = spread(guidance.levels, next(iter(some.values())).weights)
    grid = grid_plan(guidance, config) if config.grid else None
    forms = {name: form.weights for name, form in some.items()}
    return SchedulePlan(guidance, search_plan(guidance, config, way), grid, forms)


@dataclass(frozen=True, eq=False)
class SchedulePlan(ConditionsPlan):
    """Fresh trials of some classes: unguided, by the schedule in its forms, and by other ways to spend as much.

    Args:
        guidance: What is guided, and how.
        search: Plan of the search.
        grid: Plan of the grid; None without one.
        forms: Weights of the schedule's forms, the recommended one first; until the search is done, ones that cost as
            much.
        pair: The grid's best interval, first and last level by index.
        found: What the search and the grid have found, as plain data.
        arrays: The same as arrays.
    """

    search: TriedPlan
    grid: GridPlan | None
    forms: Mapping[str, Float[Array, " level"]]
    pair: tuple[int, int] = (0, 0)
    found: Mapping[str, Any] = field(default_factory=dict)
    arrays: Constants = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the conditions."""
        object.__setattr__(self, "conditions", tuple(self._conditions()))

    @property
    def config(self) -> Config:
        """The config."""
        assert isinstance(self.guidance.config, Config)
        return self.guidance.config

    def _conditions(self) -> list[Condition]:
        config, levels = self.config, self.guidance.levels
        made = [unguided()]
        made += [scheduled(name, levels, weights, OURS) for name, weights in self.forms.items()]
        if self.forms:
            made.append(scheduled(CONSTANT, levels, spread(levels, next(iter(self.forms.values()))), "ho2022"))
        made.append(scheduled(ALL, levels, np.full(len(levels), config.weight), "ho2022"))
        made.append(scheduled(PUBLISHED, levels, published(config, levels), "kynkaanniemi2024"))
        if self.grid is not None:
            made.append(scheduled(BEST, levels, span(levels, *self.pair, budget_of(config)), OURS))
        return made

    @property
    def identity(self) -> Mapping[str, Any]:
        """The same as of any conditions, the weights of the forms, and what was found."""
        weights = {name: list(map(float, own)) for name, own in self.forms.items()}
        return {**super().identity, "stage": "test", "schedules": weights, **self.found}

    @property
    def constants(self) -> Constants:
        """Noise levels, classes, trials and real images' features, and what the search and the grid have found."""
        return {**super().constants, **self.arrays}

    def needs(self) -> Mapping[str, tuple[Experiment, Plan]]:
        """Return the search, and the grid if one is asked for."""
        grid: dict[str, tuple[Experiment, Plan]] = {} if self.grid is None else {GRID: (SCHEDULE, self.grid)}
        return {SEARCH: (SCHEDULE, self.search), **grid}

    def settled(self, runs: Mapping[str, Run]) -> "SchedulePlan":
        """Return the plan with the schedules that the search has found, and the grid's best interval."""
        rounds = rounds_of(runs[SEARCH])
        best, last = best_of(rounds), rounds[-1]
        found: dict[str, Any] = {
            "search": {
                "rounds": [
                    {name: {"predicted": t.planned.gain, "gain": t.gain} for name, t in each.tried.items()}
                    for each in rounds
                ],
                "of_round": {name: place for name, (place, _) in best.items()},
                "calls": [list(each.calls) for each in rounds],
            }
        }  # fmt: skip
        arrays = {
            "search_gradient": constant(last.gradient, ("search_trial", "level"),
                                        "averaged gradient of each trial of the last round"),
            "search_label": constant(last.labels, ("search_trial",), "class of a trial of the search"),
            "search_number": constant(runs[SEARCH].dataset["trial"].to_numpy(), ("search_trial",),
                                      "trial of the search, of its class"),
        }  # fmt: skip
        pair = self.pair
        if self.grid is not None:
            seen = grid_of(runs[GRID])
            pair = int(seen["best"][0]), int(seen["best"][1])
            found["grid"] = {"calls": seen["calls"], "pairs": len(seen["pairs"]), "best": list(pair)}
            arrays["grid_pair"] = constant(seen["pairs"], ("pair", "end"), "first and last level of an interval")
            arrays["grid_gain"] = constant(seen["gains"], ("pair",), "gain on the trials of the grid")
        forms = {name: tried.planned.weights for name, (_, tried) in best.items()}
        return SchedulePlan(self.guidance, self.search, self.grid, forms, pair, found, arrays)
