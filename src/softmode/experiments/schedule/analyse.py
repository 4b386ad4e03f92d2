"""What a schedule gains on fresh trials, against other ways to spend as much, and what its search has cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from softmode.estimate import Array, Estimate, bootstrap
from softmode.experiments.pulse.analyse import (
    MEASURES,
    comparison_rows,
    condition_rows,
    few_classes,
    judged_by,
    names_of,
)
from softmode.experiments.pulse.tables import comparison_table, condition_tables
from softmode.experiments.schedule import tables
from softmode.experiments.schedule.conditions import ALL, BEST, UNGUIDED
from softmode.experiments.schedule.rounds import gains_of
from softmode.experiments.schedule.stages import stage
from softmode.experiments.susceptibility.adjoint_trials import WHAT
from softmode.runs.results import Quantity, Results
from softmode.runs.run import Run

# a gain that is no larger than this is none, of which others can be no share
NOTHING = 1e-12


def analyse(run: Run) -> Results:
    """Return what a schedule gains, or, of a run that it needs, what that has found."""
    if run.identity["stage"] != "test":
        return stage(run)
    names, gains = names_of(run), gains_of(run)
    labels = run.dataset["label"].to_numpy()
    best = next(iter(run.identity["schedules"]), None)
    gained = {name: mean_gain(gains[place], labels) for place, name in enumerate(names) if name != UNGUIDED}
    shares = {
        of: share(gains[names.index(best)], gains[names.index(of)], labels)
        for of in (ALL, BEST)
        if best is not None and of in names
    }
    conditions, calls = condition_rows(run), calls_of(run)
    found = {
        "gain": tables.gains(run, gained, conditions), "search": tables.searched(run), "calls": tables.calls(calls),
        **condition_tables(conditions), "levels": tables.levels(run),
    }  # fmt: skip
    comparisons: list[dict[str, Any]] = []
    if best is not None:
        comparisons = comparison_rows(run, best)
        title = f"The schedule ({best})"
        for measure, what in MEASURES.items():
            rows = [row for row in comparisons if row["measure"] == measure]
            found[measure] = comparison_table(rows, what, title)
    what = WHAT[run.config["alignment"]]
    return Results(
        answer=_answer(run, best, gained, shares, calls),
        quantities=(
            *(Quantity(f"gain_{name}", 0, e, f"gain of {what}, {name}, on fresh trials") for name, e in gained.items()),
            *(Quantity(f"share_of_{name}", 0, e, f"share of the gain of {name}") for name, e in shares.items()),
        ),
        tables=found,
        notes=(
            *tables.lost(run),
            *few_classes(len(run.identity["model"]["labels"]), len(names) - 1),
            *judged_by(run),
        ),
        values={"best": best, "gains": gained, "shares": shares, "calls": calls, "conditions": conditions,
                "comparisons": comparisons},
    )  # fmt: skip


def mean_gain(gains: Array, labels: Array) -> Estimate:
    """Estimate a gain of these classes, with a bootstrap over trials within them."""
    return bootstrap(gains.ravel(), np.atleast_1d, centre=lambda each: np.asarray(each.mean(0)),
                     groups=labels.tolist())[0]  # fmt: skip


def share(own: Array, other: Array, labels: Array) -> Estimate:
    """Estimate which share of another's mean gain a gain has, with a bootstrap over trials within classes."""
    rows = np.stack([own.ravel(), other.ravel()], 1)
    if rows[:, 1].mean() <= NOTHING:
        return Estimate.missing(len(rows), "the other gains nothing")
    return bootstrap(
        rows, lambda mean: np.array([mean[0] / mean[1] if mean[1] > NOTHING else np.nan]),
        centre=lambda each: np.asarray(each.mean(0)), groups=labels.tolist(),
    )[0]  # fmt: skip


def calls_of(run: Run) -> dict[str, int]:
    """Return the network evaluations of the search and of the grid."""
    found = {"search": int(sum(sum(pair) for pair in run.identity["search"]["calls"]))}
    return found | ({"grid": int(run.identity["grid"]["calls"])} if "grid" in run.identity else {})


def _answer(
    run: Run, best: str | None, gained: Mapping[str, Estimate], shares: Mapping[str, Estimate], calls: Mapping[str, int]
) -> str:
    what = WHAT[run.config["alignment"]]
    if best is None:
        why = "" if np.isfinite(run.dataset["search_gradient"].to_numpy()).all(1).any() else (
            ": no trial's derivatives are all finite"
        )  # fmt: skip
        return f"This run recommends no schedule: at none of the levels does guidance raise {what} in its search{why}."
    weights = np.array(run.identity["schedules"][best])
    guided, levels = np.flatnonzero(weights), run.dataset["level"].to_numpy()
    own = weights[guided]
    size = f"w = {own[0]:.3g}" if np.allclose(own, own[0]) else f"w of {own.min():.2g} to {own.max():.2g}"
    ends = f"sigma from {levels[guided[0]]:.3g} to {levels[guided[-1]]:.3g}"
    gain = gained[best]
    if gain.low <= 0 <= gain.high:
        return (
            f"This run cannot tell whether guiding {len(guided)} of {len(levels)} levels, {ends}, at {size} raises "
            f"{what}: on fresh samples it changes by {gain} {gain.interval}; use more --trials."
        )
    way = "raises" if gain.value >= 0 else "lowers"
    text = (
        f"Guiding {len(guided)} of {len(levels)} levels, {ends}, at {size} {way} {what} by "
        f"{gain if gain.value >= 0 else -gain.value} on fresh samples"
    )
    if np.isfinite(shares[ALL].value):
        text += f", {_percent(shares[ALL])} of what guiding all {len(levels)} at w = {run.config['weight']:g} does"
    if BEST in shares and np.isfinite(shares[BEST].value):
        ratio = calls["search"] / calls["grid"]
        cost = f"1/{1 / ratio:.2g} of" if ratio < 1 else f"{ratio:.2g} times"
        of = f"{_percent(shares[BEST])} of the best of {run.identity['grid']['pairs']} intervals"
        text += f", and {of}, at {cost} its network calls"
    return f"{text}."


def _percent(each: Estimate) -> str:
    """Return a share in percent, with its interval."""
    ends = f" [{100 * each.low:.0f}, {100 * each.high:.0f}]" if np.isfinite([each.low, each.high]).all() else ""
    return f"{100 * each.value:.0f}{ends} %"
