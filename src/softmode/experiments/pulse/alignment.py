"""How much better the critical pulse aligns samples than every other condition (paper Fig. 4B)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.experiments.pulse_summary import CRITICAL
from softmode.figures.pulse_twins import caption
from softmode.runs.report import estimate_of
from softmode.runs.run import Run

# the paper's baseline
BASELINE = "random"
SHOWN = {"probability": r"$\Delta p$", "logit": r"$\Delta z$"}
CLASS, POOLED, DOUBT = "tab:blue", "#c00000", "0.6"
LEVEL = 0.05
# room for a legend, as a share of what is drawn
HEADROOM = 0.22
NAMES = {
    "unguided": "no guidance",
    "random": "random pulse,\nuniform in\n$\\sigma$ (paper)",
    "random_log": "random pulse,\nuniform in\n$\\log\\sigma$",
    "random_step": "random pulse,\nuniform in\nsteps",
    "spread": "as many\nsteps, evenly\nspread",
    "constant": "constant,\nequal sum\nof w",
    "window": "the whole\nwindow",
    "interval": "the given\ninterval",
}


def alignment(run: Run) -> Figure:
    r"""Draw the differences of target probability and logit: by class against the paper's baseline, and against each.

    Left: critical less random pulse for every class, with 95 % bootstrap intervals; grey where flipped signs of trials
    make p >= 0.05. Right: critical less every other condition; points are classes, red their mean with its t interval
    and the p-value corrected for the number of baselines.

    Args:
        run: A finished run of a pulse experiment.

    Source: paper Fig. 4B, H.7.
    """
    figure = Figure(figsize=(15, 9), layout="constrained")
    panels = figure.subplots(2, 2, width_ratios=[1, 1.7], squeeze=False)
    for (left, right), (measure, symbol) in zip(panels, SHOWN.items(), strict=True):
        rows = [row for row in run.summary["comparisons"] if row["measure"] == measure]
        _by_class(left, next(row for row in rows if row["baseline"] == BASELINE), symbol)
        _pooled(right, rows, symbol)
    figure.suptitle(
        f"{caption(run)}\nalignment of the {CRITICAL} pulse, sigma_c = {run.config['sigma_c']:.3g} "
        f"± {run.config['half_width']:.3g}, less that of other conditions",
        parse_math=False, fontsize="medium", wrap=True,
    )  # fmt: skip
    return figure


def _by_class(ax: Axes, row: Mapping[str, Any], symbol: str) -> None:
    ax.axhline(0, color="0.4", linewidth=1)
    for place, entry in enumerate(row["by_class"]):
        estimate, sure = estimate_of(entry), entry["p"] is not None and entry["p"] < LEVEL
        color = CLASS if sure else DOUBT
        ax.plot([place, place], [estimate.low, estimate.high], color=color, linewidth=2)
        ax.plot(place, estimate.value, "o", color=color, gid="class")
    ax.plot([], [], "o", color=CLASS, label=f"p < {LEVEL:g}, flipped signs of trials")
    ax.plot([], [], "o", color=DOUBT, label=f"p ≥ {LEVEL:g}")
    _legend(ax)
    ax.set_xticks(range(len(row["by_class"])), [str(entry["label"]) for entry in row["by_class"]])
    ax.set_xlabel("class")
    ax.set_ylabel(f"{symbol}, critical − random")


def _pooled(ax: Axes, rows: Sequence[Mapping[str, Any]], symbol: str) -> None:
    ax.axhline(0, color="0.4", linewidth=1)
    for place, row in enumerate(rows):
        values = [entry["value"] for entry in row["by_class"]]
        ax.plot(place + np.linspace(-0.25, -0.1, len(values)), values, "o", color=CLASS, alpha=0.4, markersize=4)
        estimate = estimate_of(row["pooled"])
        ax.plot([place, place], [estimate.low, estimate.high], color=POOLED, linewidth=3)
        ax.plot(place, estimate.value, "D", color=POOLED, gid="pooled")
        if row["p_holm"] is not None:
            text = f"p = {row['p_holm']:.2g}"
            ax.annotate(text, (place + 0.06, estimate.value), (4, 4), textcoords="offset points", fontsize="x-small")
    ax.plot([], [], "o", color=CLASS, alpha=0.4, label="class")
    ax.plot([], [], "D", color=POOLED, label="mean over classes, 95 %, p corrected (Holm)")
    _legend(ax)
    ax.set_xticks(range(len(rows)), [NAMES[row["baseline"]] for row in rows], fontsize="x-small")
    ax.set_xlim(-0.5, len(rows) - 0.2)
    ax.set_ylabel(f"{symbol}, critical − condition")


def _legend(ax: Axes) -> None:
    """Put the legend above what is drawn."""
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + HEADROOM * (high - low))
    ax.legend(loc="upper right")
