"""Tables of a schedule: what every way to guide gains, what the search predicted and cost, and what it saw by level."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from softmode.cumulative import simultaneous
from softmode.estimate import Array, Estimate
from softmode.experiments.pulse.tables import POOLED
from softmode.experiments.schedule.rounds import mean_gradient, whole
from softmode.experiments.susceptibility.adjoint_trials import WHAT
from softmode.runs.results import Table
from softmode.runs.run import Run

# trials without a derivative that a note names
NAMED = 5


def gains(run: Run, gained: Mapping[str, Estimate], conditions: Sequence[Mapping[str, Any]]) -> Table:
    """Return the gain of every way to guide over none, on fresh trials, beside what the search predicted."""
    search, rows = run.identity["search"], []
    of = {row["name"]: row for row in conditions}
    for name, gain in gained.items():
        place = search["of_round"].get(name)
        predicted = None if place is None else search["rounds"][place - 1][name]["predicted"]
        rows.append((name, gain, gain.interval, predicted, of[name]["guided_steps"]["mean"], of[name]["guide_calls"]))
    return Table(
        f"What guidance gains of {WHAT[run.config['alignment']]}, on fresh trials",
        ("guidance", "gain", "95 % interval", "predicted", "levels", "guide calls"),
        tuple(rows),
        POOLED.partition(";")[0],
    )


def searched(run: Run) -> Table:
    """Return the schedules of every round, what they were predicted to gain, and what they did, in the search."""
    rows = [
        (place, name, each["predicted"], each["gain"])
        for place, tried in enumerate(run.identity["search"]["rounds"], 1)
        for name, each in tried.items()
    ]
    return Table(
        "The search, on its own trials: every round's schedules",
        ("round", "form", "predicted gain", "gain"),
        tuple(rows) or ((1, "none", None, None),),
        "the second round differentiates along the way to the best schedule of the first",
    )


def calls(found: Mapping[str, int]) -> Table:
    """Return the network evaluations of the search and the grid."""
    return Table(
        "Network evaluations of single states, a derivative counted as two",
        ("", "evaluations", "of the search's"),
        tuple((name, count, count / found["search"]) for name, count in found.items()),
    )


def levels(run: Run) -> Table:
    """Return the averaged gradient of the last round with its band, and the weights of every form."""
    at, (mean, low, high) = run.dataset["level"].to_numpy(), band(run)
    forms = run.identity["schedules"]
    return Table(
        "Every level: gain per unit of weight, averaged along the way of the last round, and the schedules",
        ("sigma/alpha", "gain", "95 % from", "to", *(f"w, {name}" for name in forms)),
        tuple(
            (float(at[place]), float(mean[place]), float(low[place]), float(high[place]),
             *(float(weights[place]) for weights in forms.values()))
            for place in range(len(at))
        ),
        "the band holds all of the curve at once",
    )  # fmt: skip


def band(run: Run) -> tuple[Array, Array, Array]:
    """Return the averaged gradient of the last round and the ends of its simultaneous band, [level] each."""
    gradient, labels = (run.dataset[name].to_numpy() for name in ("search_gradient", "search_label"))
    kept, mean = whole(gradient), mean_gradient(gradient)
    if kept.sum() < 2:
        return mean, mean, mean
    found = simultaneous(gradient[kept], labels[kept].tolist())
    return mean, found.low, found.high


def lost(run: Run) -> list[str]:
    """Return a note on the trials of the search whose derivatives are not finite, and at which level they cease."""
    gradient, at = run.dataset["search_gradient"].to_numpy(), run.dataset["level"].to_numpy()
    labels, trials = (run.dataset[name].to_numpy() for name in ("search_label", "search_number"))
    bad = np.flatnonzero(~whole(gradient))
    if not len(bad):
        return []
    said = [
        f"trial {trials[row]} of class {labels[row]} from sigma = {at[~np.isfinite(gradient[row])].min():.3g}"
        for row in bad[:NAMED]
    ]
    more = f", and {len(bad) - NAMED} others" if len(bad) > NAMED else ""
    return [f"derivatives of the search that are not finite, left out: {'; '.join(said)}{more}"]
