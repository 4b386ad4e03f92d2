"""The window of a probe on one axis: what the model makes of its state, its softness, every criterion."""

import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Array, median
from softmode.experiments.window.analyse import null_softness
from softmode.experiments.window.criteria import Criterion, Intercept, softness
from softmode.plots.caption import LINE, caption
from softmode.plots.critical_dynamics import WIDTH, lettered
from softmode.plots.curve_lines import trajectories_and_median
from softmode.plots.intervals import Row, interval_rows
from softmode.plots.marks import draw_marks
from softmode.plots.noise_axis import noise_axis
from softmode.plots.palette import GREY, ORANGE, VERMILLION
from softmode.plots.strip import denoised_strip, has_images
from softmode.runs.run import Run

TITLES = {
    "constant mode": "correlations at equilibrium, convention-free",
    "free": r"correlations at equilibrium, convention-free, of shells $n\geq 1$",
}
CRITERIA = "every criterion"
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

    Top: D(x) of one trajectory, each image over its noise level. (a) $\xi_{\mathrm{eq}}$, convention-free, of every
    trajectory and their median, with that of the Gaussian null in grey. (b) Every criterion with its 95 % interval
    (thick), the interval that it gives itself (thin) and its value. The window is the band in both.

    Args:
        run: A probe whose window was found.

    Source: paper Fig. 1, G.7 and H.3.
    """
    found, rows = run.results, _rows(run)
    heights = [1.7 if has_images(run) else 0.01, 3.8, 0.42 * (len(rows) + 1)]
    figure = Figure(figsize=(WIDTH, 2.6 + sum(heights)), layout="constrained")
    strip, curve, criteria = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    lettered((curve, criteria), (TITLES[found.values["intercept"]], CRITERIA))
    noise_axis(criteria, *_limits(run, rows))
    denoised_strip(strip, run) if has_images(run) else strip.set_axis_off()
    _lengths(curve, run, found.values["intercept"])
    interval_rows(criteria, [_row(criterion) for criterion in rows])
    if found.values["verdict"] != "none":
        sigma_c, low, high = (found[name].estimate for name in ("sigma_c", "sigma_lo", "sigma_hi"))
        draw_marks(curve, [("sigma_c", sigma_c)])
        for ax in (curve, criteria):
            ax.axvspan(
                high.value, low.value, color=ORANGE, alpha=0.2, linewidth=0, zorder=0, gid="window", label="window"
            )
    curve.legend(loc="upper right")
    answer = textwrap.fill(found.answer, LINE)
    figure.suptitle(f"{caption(run)}\n{answer}", parse_math=False, fontsize="medium")
    return figure


def _row(criterion: Criterion) -> Row:
    color = VERMILLION if criterion.name == "critical" else "black"
    return Row(NAMES[criterion.name], [criterion.sigma], color, (criterion.high, criterion.low), criterion.name)


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
    trajectories_and_median(ax, levels, curves)
    null, origin = null_softness(run, levels, intercept)
    if null is not None:
        label = "Gaussian null" if origin == "data" else "Gaussian null of the samples"
        ax.plot(levels, _length(null), color=GREY, linestyle="--", linewidth=1.8, label=label, gid="null")
    first, last = ax.get_xlim()
    top = float(median(curves)[(levels <= first) & (levels >= last)].max())
    ax.set_ylim(0, 2 * top if top > 0 else 1)
    ax.set_ylabel(r"$\xi_{\mathrm{eq}}$ (sites)")


def _length(curves: Array) -> Array:
    return np.sqrt(np.expm1(curves))


FIGURES = {"window": window}
