"""The clone curve: agreement of copies against the noise level at which they are made, above the final states."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from softmode.estimate import Array, Estimate
from softmode.experiments.clones.states import COLUMNS, final_states, rows_of
from softmode.plots.noise_axis import LABEL, variance_exploding
from softmode.runs.run import Run

# label, colour and marker of the agreement of each kind
KINDS = {"sign": ("signs", "tab:blue", "s"), "class": ("classes", "tab:red", "o")}
# room beside the first and last copy time, as a share of the axis
MARGIN = 0.04
# span of an axis above which ticks at 1, 2, 5 are many enough
ROUND_TICKS = 10.0
# least distance of two tick labels, as a share of the axis
TICK_SPACING = 0.06
# height of a row of states, of its titles, and of the curves (inches)
ROW, TITLE, CURVE = 1.8, 0.35, 5.4
WIDTH = 12.0
# size of what is read on and beside the axes (points): half of it is still readable
TEXT = 15


def clone_curve(run: Run) -> Figure:
    r"""Draw how far copies agree against the noise level $\sigma/\alpha$ at which they were made.

    Above: mean over trajectories of the agreement of signs and of classes, with 95 % intervals as bands. Vertical lines
    mark where a mean rises through the agreement of two equal classes at their speciation, again with 95 % intervals.
    Below: the final states of the run's first trajectory and of its first copies.

    Args:
        run: A finished run.

    Source: biroli2024.
    """
    levels = run.dataset["copy_level"].to_numpy()
    figure = Figure(figsize=(WIDTH, CURVE + ROW + 2 * TITLE), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[CURVE, ROW + TITLE], squeeze=False)
    above, below = parts[0, 0], parts[1, 0]
    ax = above.subplots()
    handles = [_agreement(ax, run, kind, levels) for kind in run.results.values["agreement"]]
    _threshold(ax, run.results.values["threshold"])
    _falling_axis(ax, levels, rf"{LABEL} at which trajectories are copied (generation $\rightarrow$)")
    ax.legend(handles=handles, loc="lower right", fontsize=14)
    places = sorted({round(i) for i in np.linspace(0, len(levels) - 1, min(len(levels), COLUMNS - 1))})
    final_states(below, run, places, [f"{levels[i]:.3g}" for i in places])
    below.suptitle(r"Final states: a trajectory, and its copies made at $\sigma/\alpha$ =", fontsize=TEXT)
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium")
    return figure


def clone_details(run: Run) -> Figure:
    """Draw the agreement of single trajectories against the time of copying, and a copy from every time.

    Args:
        run: A finished run.

    Source: biroli2024.
    """
    data = run.dataset
    times, levels = data["copy_time"].to_numpy(), data["copy_level"].to_numpy()
    rows = rows_of(1 + len(times))
    figure = Figure(figsize=(WIDTH, CURVE + (ROW + 2 * TITLE) * rows + TITLE), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[CURVE, (ROW + 2 * TITLE) * rows], squeeze=False)
    above, below = parts[0, 0], parts[1, 0]
    axes = above.subplots(1, len(run.results.values["agreement"]), sharey=True, squeeze=False)[0]
    name = r"noise level $t^*=\sigma$" if variance_exploding(run) else "time $t^*$"
    for ax, kind in zip(axes, run.results.values["agreement"], strict=True):
        noun, color, marker = KINDS[kind]
        for curve in data[f"{kind}_agreement"].to_numpy():
            ax.plot(times, curve, color=color, marker=marker, markersize=4, linewidth=0.8, alpha=0.3, gid="trajectory")
        mean = [estimate.value for estimate in run.results.values["agreement"][kind]]
        ax.plot(times, mean, color="black", linewidth=2.0, gid=kind)
        ax.set_title(f"{noun}: each trajectory, mean in black")
        _falling_axis(ax, times, rf"{name} of copying (generation $\rightarrow$)")
    axes[0].set_ylabel("agreement", fontsize=TEXT)
    titles = [f"$t^*={t:.3g}$" + ("" if variance_exploding(run) else f"\n$\\sigma/\\alpha={level:.3g}$")
              for t, level in zip(times, levels, strict=True)]  # fmt: skip
    final_states(below, run, range(len(times)), titles)
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium")
    return figure


def _agreement(ax: Axes, run: Run, kind: str, levels: Array) -> Line2D:
    """Draw the mean agreement of a kind and where it rises through the threshold; the legend says where."""
    noun, color, marker = KINDS[kind]
    estimates: list[Estimate] = run.results.values["agreement"][kind]
    mean, low, high = (np.array([getattr(e, key) for e in estimates]) for key in ("value", "low", "high"))
    ax.fill_between(levels, low, high, color=color, alpha=0.2, linewidth=0, gid=f"{kind} band")
    (line,) = ax.plot(levels, mean, color=color, marker=marker, markersize=7, linewidth=2.2, zorder=3, gid=kind)
    at = run.results[f"{kind}_agreement_level"].estimate
    if math.isnan(at.value):
        line.set_label(f"{noun}: {at.reason.partition(':')[0]}")
        return line
    ax.axvline(at.value, color=color, linestyle="--", linewidth=1.6, zorder=2, gid=f"{kind} level")
    if at.interval:
        ax.axvspan(at.low, at.high, color=color, alpha=0.1, linewidth=0, zorder=0, gid=f"{kind} interval")
    doubt = ", in doubt" if at.reason and at.samples > 1 else ""
    line.set_label(rf"{noun} agree from $\sigma/\alpha$ = {at.value:.3g} {at.interval}{doubt}".rstrip())
    return line


def _threshold(ax: Axes, threshold: float) -> None:
    ax.axhline(threshold, color="0.35", linestyle=":", linewidth=1.6, zorder=1, gid="threshold")
    ax.annotate(
        f"{threshold:g}, two equal classes at speciation", (0.99, threshold), (0, -4), ax.get_yaxis_transform(),
        "offset points", color="0.25", fontsize=13, ha="right", va="top",
    )  # fmt: skip
    ax.set_ylim(-0.03, 1.03)
    ax.set_ylabel("agreement of a trajectory\nand its copies", fontsize=TEXT)


def _falling_axis(ax: Axes, values: Array, label: str) -> None:
    """Make the x axis the log of times or noise levels, falling from left to right as generation runs."""
    span = values[0] / values[-1]
    room = max(MARGIN * math.log(span), 0.1)
    ax.set_xscale("log")
    ax.set_xlim(values[0] * math.exp(room), values[-1] * math.exp(-room))
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if span < ROUND_TICKS:
        ax.xaxis.set_major_locator(
            FixedLocator(values[spaced(np.log(values), TICK_SPACING * (math.log(span) + 2 * room))])
        )
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(label, fontsize=TEXT)
    ax.tick_params(labelsize=14)


def spaced(places: Array, least: float) -> Array:
    """Return indices of falling places, the first among them, no two of which are closer than `least`."""
    kept = [0]
    for i in range(1, len(places)):
        if places[kept[-1]] - places[i] >= least:
            kept.append(i)
    return np.array(kept)


def _caption(run: Run) -> str:
    """Return one line that says which run a figure shows."""
    config, count = run.config, run.dataset.sizes["trajectory"]
    trajectories = "1 trajectory" if count == 1 else f"{count} trajectories"
    copies = "1 copy" if config["copies"] == 1 else f"{config['copies']} copies"
    several = "class" if len(config["labels"]) == 1 else "classes"
    labels = f" ({several} {', '.join(map(str, config['labels']))})" if config["labels"] else ""
    name = Path(run.identity["model"]["name"]).name
    return f"{name}{labels}, {trajectories}, {copies} each, {config['steps']} steps, seed {config['seed']}"


FIGURES = {"clones": clone_curve, "clones_details": clone_details}
