"""The search of a schedule, and the grid that it is compared with: runs on trials of their own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from softmode.estimate import Array
from softmode.experiments.pulse.measure import ConditionsPlan, trial_constants
from softmode.experiments.pulse.sampling import cost, measure, trials_of
from softmode.experiments.pulse.trials import Guidance
from softmode.experiments.schedule.conditions import budget_of, pairs_of, scheduled, span, unguided, widths_of
from softmode.experiments.schedule.config import Config
from softmode.experiments.schedule.gradient import Sweeps, judged
from softmode.experiments.schedule.rounds import (
    EARLIER,
    GRADIENT,
    ROUNDS,
    SCHEDULE,
    best_of,
    mean_gradient,
    rounds_of,
)
from softmode.experiments.susceptibility.adjoint_measure import KEPT
from softmode.guidance.planning import FREE, INTERVAL, STEPS, Planned, planned
from softmode.runs.experiment import Constants, Experiment, Plan
from softmode.runs.identity import state_bytes
from softmode.runs.run import Run
from softmode.runs.store import ArraySpec, Block
from softmode.streams import other_seed

# what is kept of samples that are only counted
COUNTED = ("logit", "probability", "predicted", "change", "weight", "guide_calls")


def apart(guidance: Guidance, config: Config, name: str, trials: int) -> Guidance:
    """Return what guides trials of their own, whatever the test beside is: they are kept when it changes."""
    own = replace(
        config, seed=other_seed(config.seed, name), trials=trials, search_trials=Config.search_trials,
        interval=Config.interval, grid=config.grid if name == "grid" else 0, data="",
    )  # fmt: skip
    none = np.empty((0, 0), np.float32), np.empty(0, int)
    inputs = {file: digest for file, digest in guidance.inputs.items() if file != "data"}
    return replace(guidance, config=own, real=none, inputs=inputs)


@dataclass(frozen=True, eq=False)
class GradientPlan(Plan):
    """One round's derivatives, along the way to a schedule.

    Args:
        guidance: What is guided, and how.
        config: The config of the search.
        way: The schedule; where a round comes before, its best once that is known.
        round: Which round, from 1.
    """

    guidance: Guidance
    config: Config
    way: Float[Array, " level"]
    round: int
    shrink = "steps"
    counted = "search_trials"

    @property
    def sweeps(self) -> Sweeps:
        """What is measured."""
        return Sweeps(self.guidance, self.config.alignment, self.way)

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a trial's networks with what their derivative needs, and of its states."""
        state = torch.empty(self.guidance.model.shape, dtype=self.guidance.dtype, device="meta")
        kept = 2 * len(self.guidance.levels) * state.nbytes
        return KEPT * state_bytes(self.guidance.model, self.guidance.dtype) + kept

    @property
    def trajectories(self) -> int:
        """Trials of all classes."""
        return len(self.guidance.labels) * self.config.trials

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, its guide, the classifier, the digests of all files, the way, and network evaluations."""
        return {
            "model": self.guidance.fingerprint(), "inputs": dict(self.guidance.inputs), "stage": GRADIENT,
            "round": self.round, "way": self.way.tolist(), "calls": self.trajectories * self.sweeps.calls,
        }  # fmt: skip

    @property
    def constants(self) -> Constants:
        """Noise levels, classes and trials."""
        return trial_constants(self.guidance)

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Derivatives, what they are of, and where."""
        return self.sweeps.variables

    def steps(self, pending: list[Block]) -> int:
        """Return the sampler's steps, down and back."""
        groups = sum(len(set(trials_of(self.guidance, block.trajectories).labels)) for block in pending)
        return groups * self.sweeps.passes * len(self.guidance.levels)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the networks take."""
        return self.guidance.call_seconds * self.sweeps.calls * sum(len(block.trajectories) for block in pending)

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of the trials of a block."""
        found = [
            self.sweeps.measure(label, trials, advance)
            for label, trials in trials_of(self.guidance, block.trajectories).by_class()
        ]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    def needs(self) -> Mapping[str, tuple[Experiment, Plan]]:
        """Return the round before."""
        if self.round == 1:
            return {}
        return {EARLIER: (SCHEDULE, TriedPlan(self.guidance, replace(self, round=self.round - 1)))}

    def settled(self, runs: Mapping[str, Run]) -> "GradientPlan":
        """Return the plan along the way to the best schedule of the round before; that round's way without one."""
        best = [tried.planned.weights for run in runs.values() for _, tried in best_of(rounds_of(run)).values()]
        return replace(self, way=best[0]) if best else self


@dataclass(frozen=True, eq=False)
class CountedPlan(ConditionsPlan):
    """Samples under several conditions of which only their alignment is kept."""

    @property
    def config(self) -> Config:
        """The config."""
        assert isinstance(self.guidance.config, Config)
        return self.guidance.config

    @property
    def calls(self) -> int:
        """Network evaluations of all samples."""
        every = range(self.trajectories)
        sampled = sum(cost(self.guidance, every, condition)[1] for condition in self.conditions)
        return sampled + judged(self.guidance) * self.trajectories * self.parts

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """What is kept of every sample."""
        return {name: spec for name, spec in super().variables.items() if name in COUNTED}

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of the trials of a block under one condition."""
        condition = self.conditions[block.part]
        found = measure(self.guidance, block.trajectories, condition, self.cache, advance, along=False)
        return {name: found[name] for name in COUNTED}


@dataclass(frozen=True, eq=False)
class TriedPlan(CountedPlan):
    """The schedules of a round, sampled on the trials of the search.

    Args:
        guidance: What is guided, and how.
        gradient: Plan of the round's derivatives.
        forms: The schedules; until the derivatives are known, ones that cost at least as much.
    """

    gradient: GradientPlan
    forms: Mapping[str, Planned] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the conditions of the schedules."""
        if not self.forms and not self.conditions:
            object.__setattr__(self, "forms", provisional(self.config, len(self.guidance.levels)))
        levels = self.guidance.levels
        made = [scheduled(name, levels, form.weights, "ours") for name, form in self.forms.items()]
        # where no level gains, the way itself, of whose samples the summary can tell
        way = [scheduled("way", levels, self.gradient.way, "ours")]
        object.__setattr__(self, "conditions", (unguided(), *(made or way)))

    @property
    def identity(self) -> Mapping[str, Any]:
        """The same as of any conditions, the schedules, and network evaluations."""
        forms = {name: {"weights": f.weights.tolist(), "predicted": f.gain} for name, f in self.forms.items()}
        return {**super().identity, "stage": "tried", "round": self.gradient.round, "forms": forms, "calls": self.calls}

    def needs(self) -> Mapping[str, tuple[Experiment, Plan]]:
        """Return the derivatives."""
        return {GRADIENT: (SCHEDULE, self.gradient)}

    def settled(self, runs: Mapping[str, Run]) -> "TriedPlan":
        """Return the plan with the schedules of greatest predicted gain."""
        gains = mean_gradient(runs[GRADIENT].dataset["gradient"].to_numpy())
        return replace(self, forms=planned(gains, widths_of(self.guidance.levels), budget_of(self.config)))


def provisional(config: Config, count: int) -> dict[str, Planned]:
    """Return schedules that cost as much as any within the budget: they begin at the first level."""
    weights = np.zeros(count)
    weights[: config.guided_steps] = config.weight
    names = (INTERVAL, STEPS) if config.dose is None else (INTERVAL, STEPS, FREE)
    return dict.fromkeys(names, Planned(weights, 0.0))


@dataclass(frozen=True, eq=False)
class GridPlan(CountedPlan):
    """Intervals within the budget, all of them sampled.

    Args:
        guidance: What is guided, and how.
        pairs: First and last level of each, by index.
    """

    pairs: tuple[tuple[int, int], ...]

    @property
    def identity(self) -> Mapping[str, Any]:
        """The same as of any conditions, the pairs, and network evaluations."""
        return {**super().identity, "stage": "grid", "pairs": [list(pair) for pair in self.pairs], "calls": self.calls}


def search_plan(guidance: Guidance, config: Config, way: Float[Array, " level"]) -> TriedPlan:
    """Return the plan of the last round's schedules, which needs all that comes before.

    Args:
        guidance: What is guided, and how.
        config: The config of the whole.
        way: Schedule along which the first round differentiates.
    """
    own = apart(guidance, config, "search", config.search_trials)
    assert isinstance(own.config, Config)
    return TriedPlan(own, GradientPlan(own, own.config, way, ROUNDS))


def grid_plan(guidance: Guidance, config: Config) -> GridPlan:
    """Return the plan of about as many intervals as a config asks for."""
    own = apart(guidance, config, "grid", config.trials)
    pairs = tuple(pairs_of(len(guidance.levels), config.guided_steps, config.grid))
    made = [
        scheduled(f"{first}-{last}", guidance.levels, span(guidance.levels, first, last, budget_of(config)), "ours")
        for first, last in pairs
    ]
    return GridPlan(own, pairs, conditions=(unguided(), *made))
