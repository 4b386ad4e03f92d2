"""The window on one axis: what the model makes of its state, what is known of the label, softest modes, criteria."""

import math
import textwrap
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.cumulative import simultaneous
from softmode.estimate import Array, median
from softmode.experiments.information.analyse import labels_of
from softmode.experiments.instability.analyse import Curves
from softmode.experiments.window.criteria import Criterion
from softmode.experiments.window.decided import INFORMATION, INSTABILITY, KNOWN_IN, SOFT_IN, beside
from softmode.experiments.window.softness import null_softness, softness
from softmode.plots.caption import LINE, caption
from softmode.plots.critical_dynamics import WIDTH, lettered
from softmode.plots.curve_lines import trajectories_and_median
from softmode.plots.intervals import Row, interval_rows
from softmode.plots.marks import SIZE, draw_marks
from softmode.plots.noise_axis import noise_axis
from softmode.plots.palette import BLUE, GREY, ORANGE, VERMILLION
from softmode.plots.strip import denoised_strip, has_images
from softmode.runs.run import Run

NAMES = {
    "critical": r"$\sigma_c$ and the window",
    "first_unstable_state": "first unstable state",
    "half_of_states_unstable": "half of the states unstable",
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
    r"""Draw the denoised state, the evidence for the window, and every criterion, against one axis of noise levels.

    Top: D(x) of one trajectory, each image over its noise level. Then what is known of the label, with a band that
    holds all of it with 95 %, and the top eigenvalue of dD/dx of every state, above 1 where it is unstable; of a probe
    alone $\xi_{\mathrm{eq}}$ beside that of the Gaussian null. Last, every criterion with its 95 % interval (thick),
    the interval that it gives itself (thin) and its value. The window is the band in all of them.

    Args:
        run: A probe whose window was found.

    Source: paper Fig. 1, G.7 and H.3; guo2005.
    """
    found, rows, evidence = run.results, _rows(run), _evidence(run)
    heights = [1.7 if has_images(run) else 0.01, *[3.2] * len(evidence), 0.42 * (len(rows) + 1)]
    figure = Figure(figsize=(WIDTH, 2.6 + sum(heights)), layout="constrained")
    strip, *curves, criteria = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    lettered((*curves, criteria), (*evidence, "every criterion"))
    noise_axis(criteria, *_limits(run, rows))
    denoised_strip(strip, run) if has_images(run) else strip.set_axis_off()
    for ax, draw in zip(curves, evidence.values(), strict=True):
        draw(ax, run)
    interval_rows(criteria, [_row(criterion) for criterion in rows])
    if found.values["verdict"] != "none":
        draw_marks(curves[0], [("sigma_c", found["sigma_c"].estimate)])
        for ax in (*curves, criteria):
            for each in found.values["windows"]:
                ax.axvspan(
                    each["high"].value, each["low"].value, color=ORANGE, alpha=0.2, linewidth=0, zorder=0, gid="window"
                )
    answer = textwrap.fill(found.answer, LINE)
    figure.suptitle(f"{caption(run)}\n{answer}", parse_math=False, fontsize="medium")
    return figure


def _evidence(run: Run) -> dict[str, Callable[[Axes, Run], None]]:
    """Return what there is to draw beside the criteria, by its title."""
    found: dict[str, Callable[[Axes, Run], None]] = {}
    if beside(run, KNOWN_IN, INFORMATION) is not None:
        found["what is known of the label"] = _information
    if beside(run, SOFT_IN, INSTABILITY) is not None:
        found["softest mode of every state, and their median"] = _eigenvalues
    return found or {"correlations at equilibrium, convention-free": _lengths}


def _information(ax: Axes, run: Run) -> None:
    known = beside(run, KNOWN_IN, INFORMATION)
    assert known is not None
    labels, levels = labels_of(known), known.dataset["level"].to_numpy()
    groups = labels[0].truth.tolist() if len(labels) == 1 else []
    mean, low, high = simultaneous(np.sum([each.information for each in labels], axis=0), groups)
    ax.fill_between(levels, low, high, color=BLUE, alpha=0.25, linewidth=0)
    ax.plot(levels, mean, color="black", linewidth=2.2, gid="information")
    entropy = sum(each.entropy for each in labels)
    ax.axhline(entropy, color=GREY, linestyle=":", linewidth=1.4)
    ax.annotate("all there is to know", (0.985, entropy), (0, -3), xycoords=("axes fraction", "data"), ha="right",
                textcoords="offset points", va="top", color=GREY, fontsize=SIZE)  # fmt: skip
    ax.set_ylim(0, 1.05 * entropy)
    ax.set_ylabel("information (nats)")


def _eigenvalues(ax: Axes, run: Run) -> None:
    soft = beside(run, SOFT_IN, INSTABILITY)
    assert soft is not None
    curves = Curves.of(soft)
    trajectories_and_median(ax, curves.levels, curves.values)
    ax.axhline(1, color=GREY, linewidth=1.2)
    ax.annotate("unstable", (0.015, 1), (0, 4), xycoords=("axes fraction", "data"), textcoords="offset points",
                color=GREY, fontsize=SIZE)  # fmt: skip
    ax.set_ylim(0, max(1.3, 1.1 * float(np.quantile(curves.values, 0.98))))
    ax.set_ylabel("top eigenvalue of $dD/dx$")


def _row(criterion: Criterion) -> Row:
    color = VERMILLION if criterion.name == "critical" else "black"
    name = NAMES.get(criterion.name, criterion.title)
    return Row(name, [criterion.sigma], color, (criterion.high, criterion.low), criterion.name)


def _rows(run: Run) -> list[Criterion]:
    """Return the criteria that were found, and the window's own, from the highest noise level down."""
    found = run.results
    rows = [
        Criterion(row["name"], row["sigma"], row["definition"], row["source"], *(math.nan if end is None else end
                  for end in row["interval"])) for row in found.values["criteria"]
    ]  # fmt: skip
    rows += [
        Criterion("critical", each["sigma_c"], "", "", each["low"].value, each["high"].value)
        for each in found.values["windows"]
    ]
    return sorted((row for row in rows if math.isfinite(row.sigma.value)), key=lambda row: -row.sigma.value)


def _limits(run: Run, rows: list[Criterion]) -> tuple[float, float]:
    """Return the ends of the axis: all criteria and snapshots, within the run's own levels."""
    levels, shown = run.dataset["noise_level"].to_numpy(), run.dataset["snapshot_level"].to_numpy()
    ends = [value for row in rows for value in (row.sigma.value, row.sigma.low, row.sigma.high, row.low, row.high)]
    values = [*(value for value in ends if value > 0), *shown.tolist()]
    return min(ROOM * max(values), float(levels[0])), max(min(values) / ROOM, float(levels[-1]))


def _lengths(ax: Axes, run: Run) -> None:
    levels, curves = run.dataset["noise_level"].to_numpy(), _length(softness(run))
    trajectories_and_median(ax, levels, curves)
    null, origin = null_softness(run, levels)
    if null is not None:
        label = "Gaussian null" if origin == "data" else "Gaussian null of the samples"
        ax.plot(levels, _length(null), color=GREY, linestyle="--", linewidth=1.8, label=label, gid="null")
    first, last = ax.get_xlim()
    top = float(median(curves)[(levels <= first) & (levels >= last)].max())
    ax.set_ylim(0, 2 * top if top > 0 else 1)
    ax.set_ylabel(r"$\xi_{\mathrm{eq}}$ (sites)")
    ax.legend(loc="upper right")


def _length(curves: Array) -> Array:
    return np.sqrt(np.expm1(curves))


FIGURES = {"window": window}
