"""How much better the critical pulse aligns samples than every other condition (paper Fig. 4B), and the samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Estimate
from softmode.experiments.pulse.analyse import RANDOM, about
from softmode.experiments.pulse.tables import LEVEL
from softmode.experiments.pulse.twins import paths, twins
from softmode.runs.run import Run

SHOWN = {"probability": r"probability, $\Delta p$", "logit": r"logit, $\Delta z$"}
CLASS, POOLED = "tab:blue", "#c00000"
NAMES = {
    "unguided": "no guidance",
    "random": "random pulse,\nuniform in $\\sigma$ (paper)",
    "random_log": "random pulse,\nuniform in $\\log\\sigma$",
    "random_step": "random pulse,\nuniform in steps",
    "spread": "as many steps,\nevenly spread",
    "constant": "constant,\nequal sum of $w$",
    "window": "whole window",
    "interval": "given interval",
}


def alignment(run: Run) -> Figure:
    r"""Draw the differences of target probability and logit: against each condition, and by class against the paper's.

    Top: critical minus every other condition; points are classes, red their mean with its t interval, and beside it
    the p-value corrected for the number of comparisons. Bottom: critical minus random pulse for every class, with
    95 % bootstrap intervals. Open markers: p >= 0.05.

    Args:
        run: A finished run of a pulse experiment.

    Source: paper Fig. 4B, H.7.
    """
    comparisons = run.results.values["comparisons"]
    count = len({row["baseline"] for row in comparisons})
    figure = Figure(figsize=(11, 4.4 + 0.58 * count), layout="constrained")
    panels = figure.subplots(2, 2, height_ratios=[0.58 * count, 2.9], squeeze=False)
    for place, (measure, symbol) in enumerate(SHOWN.items()):
        rows = [row for row in comparisons if row["measure"] == measure]
        _pooled(panels[0, place], rows, symbol, named=place == 0)
        _by_class(panels[1, place], next(row for row in rows if row["baseline"] == RANDOM), symbol)
    config = run.config
    figure.suptitle(
        f"{about(run)}\ncritical pulse, sigma_c = {config['sigma_c']:.3g} ± {config['half_width']:.3g}, minus each "
        f"other condition; open markers: p ≥ {LEVEL:g}",
        parse_math=False, fontsize="medium", wrap=True,
    )  # fmt: skip
    return figure


def _pooled(ax: Axes, rows: Sequence[Mapping[str, Any]], symbol: str, named: bool) -> None:
    """Draw one row for every condition, from top to bottom, with its corrected p-value at the right."""
    ax.axvline(0, color="0.4", linewidth=1)
    for place, row in enumerate(rows):
        values = [entry["estimate"].value for entry in row["by_class"]]
        ax.plot(values, np.full(len(values), place - 0.2), "o", color=CLASS, alpha=0.4, markersize=5, gid="classes")
        _interval(ax, row["pooled"], place + 0.12, row["p_holm"], POOLED, "D", "pooled", flat=True)
        if row["p_holm"] is not None:
            where = ax.get_yaxis_transform()
            ax.text(1.015, place, f"{row['p_holm']:.2g}", transform=where, va="center", color=POOLED, gid="p")
    ax.text(1.015, -0.75, "$p$, Holm", transform=ax.get_yaxis_transform(), color=POOLED)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [NAMES[row["baseline"]] if named else "" for row in rows])
    ax.set_xlabel(f"{symbol}, critical $-$ condition")
    if named:
        ax.set_title("mean, 95 %; dots: classes", fontsize="medium", loc="left")


def _by_class(ax: Axes, row: Mapping[str, Any], symbol: str) -> None:
    ax.axhline(0, color="0.4", linewidth=1)
    for place, entry in enumerate(row["by_class"]):
        _interval(ax, entry["estimate"], float(place), entry["p"], CLASS, "o", "class")
    labels = [str(entry["label"]) for entry in row["by_class"]]
    # at most so many numbers fit beside each other
    every = -(-len(labels) // 10)
    ax.set_xticks(range(0, len(labels), every), labels[::every])
    ax.set_xlabel("class")
    ax.set_ylabel(f"{symbol.split(', ')[1]}, critical $-$ random")


def _interval(
    ax: Axes, estimate: Estimate, place: float, p: float | None, color: str, marker: str, gid: str, flat: bool = False
) -> None:
    """Draw an estimate with its interval across a place; an open marker unless its p-value is small."""
    face = color if p is not None and p < LEVEL else "white"
    at, ends = [place, place], [estimate.low, estimate.high]
    ax.plot(*((ends, at) if flat else (at, ends)), color=color, linewidth=2.5)
    point = (estimate.value, place) if flat else (place, estimate.value)
    ax.plot(*point, marker, color=color, markerfacecolor=face, markersize=7, gid=gid)


FIGURES = {"alignment": alignment, "twins": twins, "paths": paths}
