"""The window of a probe on one axis: what the model makes of its state, its softness, every notion of criticality."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Array, median
from softmode.experiments import window as windows
from softmode.experiments.notions import Intercept, softness
from softmode.plots.caption import caption
from softmode.plots.length_panel import GAIN
from softmode.plots.noise_axis import noise_axis
from softmode.plots.null_lines import GREY
from softmode.plots.strip import denoised_strip, has_images
from softmode.runs.report import estimate_of
from softmode.runs.run import Run

LENGTHS = {
    "constant mode": r"$\xi_{\mathrm{eq}}$, convention-free, median",
    "free": r"$\xi_{\mathrm{eq}}$ of shells $n\geq 1$, convention-free, median",
}
WINDOW, CENTRE = "#f6d8b0", "#c00000"
NAMES = {
    "critical": r"$\sigma_c$ and the window",
    "peak_of_xi_eq": r"peak of $\xi_{\mathrm{eq}}$, Eq. 69",
    "peak_without_constant_mode": r"$\xi_{\mathrm{eq}}$ without constant mode",
    "growth_of_xi_x": r"growth of $\xi_x$",
    "departure_from_null": "departure from the null",
    "posterior_class_entropy": "class entropy of $D(x)$",
    "clone_sign_agreement": "clones agree in sign",
    "clone_class_agreement": "clones agree in class",
}
# factor between the outermost of what is shown and the ends of the axis
ROOM = 1.6


def window(run: Run) -> Figure:
    r"""Draw the denoised state, the softness beside the null's, and every notion, against one axis of noise levels.

    Top: D(x) of one trajectory, each image over its noise level. Middle: $\xi_{\mathrm{eq}}$, convention-free, of every
    trajectory, transparent, and their median, with that of the Gaussian null in grey. Bottom: every notion with its
    95 % interval (thick) and the interval that it gives itself (thin).

    Args:
        run: A probe whose window was found.

    Source: paper Fig. 1, G.7 and H.3.
    """
    found = windows.read(run)
    rows = [row for row in _rows(found) if row["value"] is not None]
    strip_shown = has_images(run)
    heights = [1.5 if strip_shown else 0.01, 3.2, 0.45 * len(rows) + 0.2]
    figure = Figure(figsize=(11, 1.8 + sum(heights)), layout="constrained")
    strip, curve, notions = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _lengths(curve, run, found["intercept"])
    _notions(notions, rows)
    noise_axis(notions, *_limits(run, rows))
    denoised_strip(strip, run) if strip_shown else strip.set_axis_off()
    if found["verdict"] != "none":
        low, high = (found[name]["value"] for name in ("sigma_lo", "sigma_hi"))
        for ax in (curve, notions):
            ax.axvspan(high, low, color=WINDOW, linewidth=0, zorder=0, gid="window")
            ax.axvline(found["sigma_c"]["value"], color=CENTRE, linestyle="--", linewidth=1.4, zorder=1, gid="sigma_c")
    curve.legend(loc="best")
    figure.suptitle(f"{caption(run)}\n{found['answer']}", parse_math=False, fontsize="medium", wrap=True)
    return figure


def _rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is shown at the bottom, from the highest noise level down."""
    rows = [dict(notion) for notion in found["notions"]]
    if found["verdict"] != "none":
        ends = [found["sigma_lo"]["value"], found["sigma_hi"]["value"]]
        rows.append(found["sigma_c"] | {"name": "critical", "interval": ends})
    return sorted(rows, key=lambda row: -(row["value"] or 0.0))


def _limits(run: Run, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the ends of the axis: all notions and snapshots, within the run's own levels."""
    levels, shown = run.dataset["noise_level"].to_numpy(), run.dataset["snapshot_level"].to_numpy()
    values = [value for row in rows for value in (row["value"], row["low"], row["high"], *row["interval"]) if value]
    values = [*values, *shown.tolist()]
    return min(ROOM * max(values), float(levels[0])), max(min(values) / ROOM, float(levels[-1]))


def _lengths(ax: Axes, run: Run, intercept: Intercept) -> None:
    levels, curves = run.dataset["noise_level"].to_numpy(), _length(softness(run, intercept))
    for values in curves:
        ax.plot(levels, values, color=GAIN, linewidth=0.8, alpha=0.3)
    ax.plot(levels, median(curves), color=GAIN, linewidth=2.2, label=LENGTHS[intercept])
    null, origin = windows.null_softness(run, levels, intercept)
    if null is not None:
        label = "Gaussian null" if origin == "data" else "Gaussian null of the samples"
        ax.plot(levels, _length(null), color=GREY, linestyle="--", linewidth=1.8, label=label, gid="null")
    top = float(median(curves).max())
    ax.set_ylim(0, 2 * top if top > 0 else 1)
    ax.set_ylabel(r"$\xi_{\mathrm{eq}}$ (sites)")


def _length(curves: Array) -> Array:
    return np.sqrt(np.expm1(curves))


def _notions(ax: Axes, rows: list[dict[str, Any]]) -> None:
    for place, row in enumerate(rows):
        estimate, color = estimate_of(row), CENTRE if row["name"] == "critical" else "black"
        if None not in row["interval"]:
            ax.plot(row["interval"], [place, place], color=color, linewidth=1.2, marker="|", markersize=9)
        if math.isfinite(estimate.low):
            ax.plot([estimate.low, estimate.high], [place, place], color=color, linewidth=4, alpha=0.5)
        ax.plot(estimate.value, place, "o", color=color, markersize=6, gid=row["name"])
    ax.plot([], [], color="black", linewidth=4, alpha=0.5, label="95 % interval")
    ax.plot([], [], color="black", linewidth=1.2, marker="|", markersize=9, label="window of the notion itself")
    ax.legend(loc="best")
    ax.set_yticks(range(len(rows)), [NAMES[row["name"]] for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", color="0.9")
