"""What a search has found: averaged gradients, the schedules of every round, and what they gain on its own trials."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from softmode.estimate import Array
from softmode.experiments.pulse.analyse import by_trial, names_of
from softmode.experiments.susceptibility.outcomes import CHANGE, SURE
from softmode.guidance.planning import Planned
from softmode.runs.experiment import Experiment
from softmode.runs.run import Run
from softmode.runs.store import is_run

SCHEDULE = Experiment("schedule", "softmode.experiments.schedule")
# where runs are, below those that need them
GRADIENT, EARLIER, SEARCH, GRID = "gradient", "round-1", "round-2", "grid"
ROUNDS = 2


class Tried(NamedTuple):
    """A schedule of a round.

    Attributes:
        planned: Its weights, and what they are predicted to gain.
        gain: What they gain on the trials of the search, the mean.
    """

    planned: Planned
    gain: float


@dataclass(frozen=True, eq=False)
class Round:
    """One round of a search.

    Args:
        gradient: The averaged gradient of every trial, [trial, level]; NaN where it is not finite.
        labels: Class of each trial.
        tried: Its schedules by their form.
        calls: Network evaluations of the derivatives, and of the schedules.
    """

    gradient: Float[Array, "trial level"]
    labels: Array
    tried: Mapping[str, Tried]
    calls: tuple[int, int]


def rounds_of(run: Run) -> list[Round]:
    """Return the rounds of a search, the first of them first.

    Args:
        run: The run of the last round's schedules.
    """
    derivatives = Run(run.directory / GRADIENT, SCHEDULE)
    earlier = derivatives.directory / EARLIER
    before = rounds_of(Run(earlier, SCHEDULE)) if is_run(earlier) else []
    gains, names = gains_of(run), names_of(run)
    tried = {
        name: Tried(
            Planned(np.array(form["weights"]), form["predicted"]), float(gains[names.index(name)].mean())
        )
        for name, form in run.identity["forms"].items()
    }  # fmt: skip
    gradient, labels = (derivatives.dataset[name].to_numpy() for name in ("gradient", "label"))
    return [*before, Round(gradient, labels, tried, (derivatives.identity["calls"], run.identity["calls"]))]


def best_of(rounds: list[Round]) -> dict[str, tuple[int, Tried]]:
    """Return the best schedule of each form by what it gained in the search, the best of all first, with its round."""
    found: dict[str, tuple[int, Tried]] = {}
    for place, each in enumerate(rounds, 1):
        for name, tried in each.tried.items():
            if name not in found or tried.gain > found[name][1].gain:
                found[name] = place, tried
    return dict(sorted(found.items(), key=lambda item: -item[1][1].gain))


def whole(gradient: Float[Array, "trial level"]) -> Bool[Array, " trial"]:
    """Return which trials' derivatives are all finite."""
    return np.isfinite(gradient).all(1)


def mean_gradient(gradient: Float[Array, "trial level"]) -> Float[Array, " level"]:
    """Return the mean over trials whose derivatives are all finite; NaN without any."""
    kept = gradient[whole(gradient)]
    return kept.mean(0) if len(kept) else np.full(gradient.shape[1], math.nan)


def values_of(run: Run) -> Float[Array, "condition class trial"]:
    """Return what guidance is to gain, of every sample."""
    name = run.config["alignment"]
    if name == CHANGE:
        return by_trial(run, CHANGE)
    p = by_trial(run, "probability")
    # the least number stands for a probability that is none in float64
    log = np.log(np.maximum(p, np.finfo(float).tiny))
    if name == "logit":
        return np.clip(log - np.log(np.maximum(1 - p, np.finfo(float).tiny)), -SURE, SURE)
    return p if name == "probability" else log


def gains_of(run: Run) -> Float[Array, "condition class trial"]:
    """Return the same less that of the unguided twin, which is the first condition."""
    values = values_of(run)
    return values - values[:1]


def grid_of(run: Run) -> dict[str, Any]:
    """Return what a grid of intervals has found: the pairs of levels by index, their gains, and the best."""
    pairs, gains = np.array(run.identity["pairs"]), gains_of(run)[1:].mean((1, 2))
    return {"pairs": pairs, "gains": gains, "best": pairs[int(gains.argmax())], "calls": run.identity["calls"]}


def home_of(run: Run) -> Path:
    """Return the directory of a run's search."""
    return run.directory / SEARCH
