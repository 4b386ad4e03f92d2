"""The schedule over the noise levels beside the grid's map, what every way to guide gains, and samples."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.experiments.pulse.analyse import about, names_of
from softmode.experiments.pulse.twins import twins as pairs_of_samples
from softmode.experiments.schedule.conditions import ALL, BEST, CONSTANT, PUBLISHED, UNGUIDED
from softmode.experiments.schedule.rounds import gains_of
from softmode.experiments.schedule.tables import band
from softmode.experiments.susceptibility.adjoint_trials import WHAT, edges_of
from softmode.guidance.planning import FREE, INTERVAL, STEPS
from softmode.plots.noise_axis import interval, noise_axis
from softmode.runs.run import Run

LINE, CHOSEN, CLASS = "tab:blue", "#c00000", "tab:blue"
NAMES = {
    INTERVAL: "schedule: interval",
    STEPS: "schedule: any levels",
    FREE: "schedule: any weights",
    CONSTANT: "constant, equal sum of $w$",
    ALL: "all levels, same $w$",
    PUBLISHED: "published interval",
    BEST: "best of the grid",
}


def schedule(run: Run) -> Figure | None:
    """Draw the averaged gradient with its band above the schedule's weights; beside them the grid's map, if any.

    Args:
        run: A finished run of a schedule experiment.
    """
    if not _tested(run):
        return None
    mapped = "grid_gain" in run.dataset
    figure = Figure(figsize=(15 if mapped else 10, 8), layout="constrained")
    left, *right = figure.subfigures(1, 1 + mapped, squeeze=False, width_ratios=(3, 2)[: 1 + mapped])[0]
    top, bottom = left.subplots(2, 1, sharex=True)
    levels, (mean, low, high) = run.dataset["level"].to_numpy(), band(run)
    edges = edges_of(levels)
    widths = -np.diff(np.log(edges))
    weights = np.array(next(iter(run.identity["schedules"].values()), np.zeros(len(levels))))
    for ax in (top, bottom):
        for place in np.flatnonzero(weights):
            ax.axvspan(edges[place + 1], edges[place], color="#f6d8b0", linewidth=0, zorder=0, gid="guided")
    top.axhline(0, color="0.4", linewidth=1)
    top.fill_between(levels, low / widths, high / widths, color=LINE, alpha=0.25, linewidth=0, gid="band")
    top.plot(levels, mean / widths, "o-", color=LINE, markersize=4, linewidth=2, gid="gradient")
    top.set_ylabel("gain per $w\\,d\\log\\sigma$,\naveraged along the way")
    bottom.bar(edges[1:], weights, edges[:-1] - edges[1:], align="edge", color=CHOSEN, edgecolor="white", gid="weights")
    bottom.set_ylabel("weight $w$ of the schedule")
    noise_axis(bottom, *interval(levels))
    for beside in right:
        _map(beside.subplots(), run, weights)
    what = WHAT[run.config["alignment"]]
    figure.suptitle(
        f"{about(run)}\ngain of {what}; shaded: levels that the schedule guides", parse_math=False, fontsize="medium",
        wrap=True,
    )  # fmt: skip
    return figure


def _map(ax: Axes, run: Run, weights: np.ndarray) -> None:
    """Draw the gain of every interval of the grid at its ends, the schedule's and the best one marked."""
    levels, pairs = run.dataset["level"].to_numpy(), run.dataset["grid_pair"].to_numpy()
    drawn = ax.scatter(
        levels[pairs[:, 0]], levels[pairs[:, 1]], c=run.dataset["grid_gain"].to_numpy(), marker="s", s=46, gid="pairs"
    )
    first, last = run.identity["grid"]["best"]
    ax.plot(levels[first], levels[last], "o", markersize=15, markerfacecolor="none", markeredgecolor="black",
            markeredgewidth=2, label="best of the grid", linestyle="none", gid="best")  # fmt: skip
    guided = np.flatnonzero(weights)
    if len(guided):
        ax.plot(levels[guided[0]], levels[guided[-1]], "*", markersize=17, color=CHOSEN, markeredgecolor="white",
                label="schedule", linestyle="none", gid="chosen")  # fmt: skip
    noise_axis(ax, *interval(levels))
    ax.set_yscale("log")
    ax.set_xlabel("highest guided level")
    ax.set_ylabel("lowest guided level")
    ax.legend(loc="upper right")
    ax.figure.colorbar(drawn, ax=ax, location="top", label="gain on the grid's trials", shrink=0.8)


def gains(run: Run) -> Figure | None:
    """Draw what every way to guide gains on fresh trials: points are classes, the mean with its 95 % interval.

    Args:
        run: A finished run of a schedule experiment.
    """
    if not _tested(run):
        return None
    names, by_class = names_of(run), gains_of(run).mean(2)
    shown = [name for name in names if name != UNGUIDED]
    found = run.results.values["gains"]
    figure = Figure(figsize=(10, 2.2 + 0.6 * len(shown)), layout="constrained")
    ax = figure.subplots()
    ax.axvline(0, color="0.4", linewidth=1)
    for place, name in enumerate(shown):
        own, gain = by_class[names.index(name)], found[name]
        ax.plot(own, np.full(len(own), place - 0.2), "o", color=CLASS, alpha=0.4, markersize=5, gid="classes")
        if math.isfinite(gain.low):
            ax.plot([gain.low, gain.high], [place + 0.12] * 2, color=CHOSEN, linewidth=2.5, gid="interval")
        ax.plot(gain.value, place + 0.12, "D", color=CHOSEN, markersize=7, gid="gain")
    ax.set_yticks(range(len(shown)), [NAMES[name] for name in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlabel(f"gain of {WHAT[run.config['alignment']]} over no guidance")
    ax.set_title("fresh trials: mean, 95 %; dots: classes", fontsize="medium", loc="left")
    figure.suptitle(about(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def twins(run: Run) -> Figure | None:
    """Draw the sample of each class's first trial without guidance, and below it with the schedule.

    Args:
        run: A finished run of a schedule experiment.
    """
    best = next(iter(run.identity.get("schedules", {})), None) if _tested(run) else None
    return None if best is None else pairs_of_samples(run, best, "schedule")


def _tested(run: Run) -> bool:
    return bool(run.identity["stage"] == "test")


FIGURES = {"schedule": schedule, "gains": gains, "twins": twins}
