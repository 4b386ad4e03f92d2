"""What the runs say that a schedule needs: derivatives, schedules that are tried, and a grid of intervals."""

import numpy as np

from softmode.comparison import over_classes
from softmode.experiments.pulse.analyse import names_of
from softmode.experiments.schedule.rounds import GRADIENT, gains_of, mean_gradient
from softmode.runs.results import Results, Table
from softmode.runs.run import Run

# intervals of a grid that its table shows
SHOWN = 8


def stage(run: Run) -> Results:
    """Return what one of these runs has found."""
    return _derivatives(run) if run.identity["stage"] == GRADIENT else _sampled(run)


def _derivatives(run: Run) -> Results:
    levels, mean = run.dataset["level"].to_numpy(), mean_gradient(run.dataset["gradient"].to_numpy())
    order = np.argsort(-mean, kind="stable")[:SHOWN]
    rows = tuple((float(levels[place]), float(mean[place]), float(run.identity["way"][place])) for place in order)
    return Results(
        f"Round {run.identity['round']}: most is gained per unit of weight at sigma = {levels[order[0]]:.3g}.",
        (),
        {"levels": Table("Levels that gain most per unit of weight", ("sigma/alpha", "gain", "w on the way"), rows)},
    )


def _sampled(run: Run) -> Results:
    gains, names = gains_of(run)[1:].mean(2), names_of(run)[1:]
    order = np.argsort(-gains.mean(1), kind="stable")[:SHOWN]
    definitions = [condition["definition"] for condition in run.identity["conditions"][1:]]
    rows = tuple((names[place], over_classes(gains[place]), definitions[place]) for place in order)
    first = int(order[0])
    return Results(
        f"Of {len(names)} schedules {names[first]} gains most, {rows[0][1]}: {definitions[first]}.",
        (),
        {"gain": Table("Schedules that gain most", ("", "gain, mean over classes", "guidance"), rows)},
    )
