"""The window of a probe on one axis: what the model makes of its state, its softness, every criterion."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Array, median
from softmode.experiments.window.analyse import null_softness
from softmode.experiments.window.criteria import Criterion, Intercept, softness
from softmode.plots.critical_dynamics import caption
from softmode.plots.length_panel import GAIN
from softmode.plots.noise_axis import noise_axis
from softmode.plots.null_lines import GREY
from softmode.plots.strip import denoised_strip, has_images
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
    r"""Draw the denoised state, the softness beside the null's, and every criterion, against one axis of noise levels.

    Top: D(x) of one trajectory, each image over its noise level. Middle: $\xi_{\mathrm{eq}}$, convention-free, of every
    trajectory, transparent, and their median, with that of the Gaussian null in grey. Bottom: every criterion with its
    95 % interval (thick) and the interval that it gives itself (thin).

    Args:
        run: A probe whose window was found.

    Source: paper Fig. 1, G.7 and H.3.
    """
    found, rows = run.results, _rows(run)
    strip_shown = has_images(run)
    heights = [1.5 if strip_shown else 0.01, 3.2, 0.45 * len(rows) + 0.2]
    figure = Figure(figsize=(11, 1.8 + sum(heights)), layout="constrained")
    strip, curve, criteria = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _lengths(curve, run, found.values["intercept"])
    _criteria(criteria, rows)
    noise_axis(criteria, *_limits(run, rows))
    denoised_strip(strip, run) if strip_shown else strip.set_axis_off()
    if found.values["verdict"] != "none":
        sigma_c, low, high = (found[name].estimate.value for name in ("sigma_c", "sigma_lo", "sigma_hi"))
        for ax in (curve, criteria):
            ax.axvspan(high, low, color=WINDOW, linewidth=0, zorder=0, gid="window")
            ax.axvline(sigma_c, color=CENTRE, linestyle="--", linewidth=1.4, zorder=1, gid="sigma_c")
    curve.legend(loc="best")
    figure.suptitle(f"{caption(run)}\n{found.answer}", parse_math=False, fontsize="medium", wrap=True)
    return figure


def _rows(run: Run) -> list[Criterion]:
    """Return the criteria that were found, and the window's own, from the highest noise level down."""
    found = run.results
    rows = [
        Criterion(row["name"], row["sigma"], row["definition"], row["source"], *(math.nan if end is None else end
                  for end in row["interval"])) for row in found.values["criteria"]
    ]  # fmt: skip
    sigma_c, low, high = (found[name].estimate for name in ("sigma_c", "sigma_lo", "sigma_hi"))
    rows.append(Criterion("critical", sigma_c, "", "", low.value, high.value))
    return sorted((row for row in rows if math.isfinite(row.sigma.value)), key=lambda row: -row.sigma.value)


def _limits(run: Run, rows: list[Criterion]) -> tuple[float, float]:
    """Return the ends of the axis: all criteria and snapshots, within the run's own levels."""
    levels, shown = run.dataset["noise_level"].to_numpy(), run.dataset["snapshot_level"].to_numpy()
    ends = [value for row in rows for value in (row.sigma.value, row.sigma.low, row.sigma.high, row.low, row.high)]
    values = [*(value for value in ends if value > 0), *shown.tolist()]
    return min(ROOM * max(values), float(levels[0])), max(min(values) / ROOM, float(levels[-1]))


def _lengths(ax: Axes, run: Run, intercept: Intercept) -> None:
    levels, curves = run.dataset["noise_level"].to_numpy(), _length(softness(run, intercept))
    for values in curves:
        ax.plot(levels, values, color=GAIN, linewidth=0.8, alpha=0.3)
    ax.plot(levels, median(curves), color=GAIN, linewidth=2.2, label=LENGTHS[intercept])
    null, origin = null_softness(run, levels, intercept)
    if null is not None:
        label = "Gaussian null" if origin == "data" else "Gaussian null of the samples"
        ax.plot(levels, _length(null), color=GREY, linestyle="--", linewidth=1.8, label=label, gid="null")
    top = float(median(curves).max())
    ax.set_ylim(0, 2 * top if top > 0 else 1)
    ax.set_ylabel(r"$\xi_{\mathrm{eq}}$ (sites)")


def _length(curves: Array) -> Array:
    return np.sqrt(np.expm1(curves))


def _criteria(ax: Axes, rows: list[Criterion]) -> None:
    for place, row in enumerate(rows):
        estimate, color = row.sigma, CENTRE if row.name == "critical" else "black"
        if math.isfinite(row.low) and math.isfinite(row.high):
            ax.plot([row.low, row.high], [place, place], color=color, linewidth=1.2, marker="|", markersize=9)
        if math.isfinite(estimate.low):
            ax.plot([estimate.low, estimate.high], [place, place], color=color, linewidth=4, alpha=0.5)
        ax.plot(estimate.value, place, "o", color=color, markersize=6, gid=row.name)
    ax.plot([], [], color="black", linewidth=4, alpha=0.5, label="95 % interval")
    ax.plot([], [], color="black", linewidth=1.2, marker="|", markersize=9, label="window of the criterion itself")
    ax.legend(loc="best")
    ax.set_yticks(range(len(rows)), [NAMES[row.name] for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", color="0.9")


FIGURES = {"window": window}
