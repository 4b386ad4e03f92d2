"""The score card as a picture."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.experiments.validate.analyse import FACTOR, SHOWN, Scores, rate, title
from softmode.plots.palette import BLUE, GREY, SHADE, VERMILLION
from softmode.runs.run import Run

# largest factor in view
BEYOND = 30.0


def scores(run: Run) -> Figure:
    """Draw how often each criterion is wrong, and how far off its levels are.

    Args:
        run: A finished run.
    """
    found = Scores.of(run)
    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _rates(left, found)
    _off(right, found)
    left.set_yticks(range(len(SHOWN)), [title(name) for name in SHOWN])
    left.set_ylim(len(SHOWN) - 0.5, -0.5)
    models = f"{found.null.sum()} models without a transition, {(~found.null).sum()} with one"
    quick = ", first answers (--quick)" if run.config["quick"] else ""
    figure.suptitle(f"{models}{quick}, seed {run.config['seed']}", parse_math=False, fontsize="medium")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def _rates(ax: Axes, found: Scores) -> None:
    for place, name in enumerate(SHOWN):
        pairs = ((found.alarms(name), VERMILLION, -0.12), (found.missed(name)[found.asked(name)], BLUE, 0.12))
        for hits, color, shift in pairs:
            share = rate(hits)
            if math.isfinite(share.value):
                ends = [[100 * (share.value - share.low)], [100 * (share.high - share.value)]]
                ax.errorbar(100 * share.value, place + shift, xerr=ends, fmt="o", color=color, capsize=3)
    ax.errorbar([], [], fmt="o", color=VERMILLION, label="false alarms")
    ax.errorbar([], [], fmt="o", color=BLUE, label="misses")
    ax.axvline(5, color=GREY, linestyle=":", linewidth=1.2)
    ax.set_xlim(-3, 108)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("share of models (%), dotted: 5 %")


def _off(ax: Axes, found: Scores) -> None:
    rng = np.random.default_rng(0)
    for place, name in enumerate(SHOWN):
        off = found.off(name)
        factor = np.exp(off[np.isfinite(off)])
        height = place + rng.uniform(-0.25, 0.25, len(factor))
        for marker, which in (("<", factor < 1 / BEYOND), (">", factor > BEYOND)):
            edge = np.clip(factor[which], 1 / BEYOND, BEYOND)
            ax.plot(edge, height[which], marker, color=GREY, markersize=4, alpha=0.7)
        inside = (factor >= 1 / BEYOND) & (factor <= BEYOND)
        ax.plot(factor[inside], height[inside], ".", color=BLUE, markersize=4, alpha=0.5)
    ax.axvspan(1 / FACTOR, FACTOR, color=SHADE, alpha=0.4, linewidth=0, zorder=0)
    ax.axvline(1, color=GREY, linewidth=1.2)
    ax.set_xscale("log")
    ax.set_xlim(1 / (1.2 * BEYOND), 1.2 * BEYOND)
    ax.set_xticks([0.1, 0.5, 1, 2, 10], ["1/10", "1/2", "1", "2", "10"])
    ax.minorticks_off()
    ax.set_xlabel("level / truth (triangles: beyond a factor of 30)")


FIGURES = {"scores": scores}
