"""The panels of the equilibrium correlation length: convention-free, and in every convention beside one another."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle

from softmode.critical import fit_dispersion
from softmode.estimate import Array, median
from softmode.plots.caption import is_probe
from softmode.plots.curve_lines import trajectories_and_median
from softmode.plots.null_lines import null_length, null_line
from softmode.plots.palette import BLUE, GREEN, SHADE, VERMILLION
from softmode.runs.run import Run

DRIFT, GAIN, FREE = BLUE, VERMILLION, GREEN
# name of xi_eq's array -> its label, colour and line
LENGTHS = {
    "xi_eq_gain": (r"from $1-G_n$, convention-free", GAIN, "-"),
    "xi_eq_drift": (r"from the drift's $\lambda_n$", DRIFT, "--"),
    "xi_eq_free": (r"from $1-G_{n\geq 1}$ alone", FREE, ":"),
}
# share of a median curve that is no divergence, and how far beyond it the axis reaches
DEFINED, BEYOND = 0.9, 2.0
LABEL = r"equilibrium length $\xi_{\mathrm{eq}}$ (sites)"


def drawn_lengths(run: Run) -> list[str]:
    """Return the arrays of xi_eq that are drawn; a patch model's constant mode is exact, so two are enough for it."""
    return [name for name in LENGTHS if is_probe(run) or name != "xi_eq_free"]


def equilibrium_length(ax: Axes, run: Run) -> None:
    r"""Draw the convention-free $\xi_{\mathrm{eq}}$ of trajectories and their median against time, and the null's.

    Source: paper Figs. 3, 6 and 7, left; Eq. 69 on 1 - G_n.
    """
    curves, times = run.dataset["xi_eq_gain"].to_numpy(), run.dataset["time"].to_numpy()
    trajectories_and_median(ax, times, curves)
    undefined = _shade(ax, run, "xi_eq_gain", "undefined")
    if undefined:
        ax.legend(handles=undefined[:1], loc="upper right")
    null = null_length(run)
    if null is not None:
        null_line(ax, run, null)
    ax.set_ylim(0, length_limit(median(curves), null))
    ax.set_ylabel(LABEL)


def length_by_convention(ax: Axes, run: Run) -> None:
    r"""Draw the medians of $\xi_{\mathrm{eq}}$ in every convention, with the bands where the drift's is undefined.

    Source: paper Figs. 3, 6 and 7, left; Eq. 69.
    """
    times = run.dataset["time"].to_numpy()
    curves = {name: median(run.dataset[name].to_numpy()) for name in drawn_lengths(run)}
    for name, values in curves.items():
        label, color, linestyle = LENGTHS[name]
        ax.plot(times, values, color=color, linestyle=linestyle, linewidth=2.0, label=label, gid=name)
    _weighted(ax, run)
    _shade(ax, run, "xi_eq_drift", f"the drift's is undefined ({_why(run)})")
    ax.set_ylim(0, length_limit(curves["xi_eq_gain"], curves["xi_eq_drift"]))
    ax.set_ylabel(LABEL)


def _weighted(ax: Axes, run: Run) -> None:
    """Draw the length of the weighted fit with its 95 % interval, where there is one."""
    fit = run.results.values.get("fit")
    if fit is None:
        return
    times = run.dataset["time"].to_numpy()
    value, low, high = (np.array([getattr(e, name) for e in fit["xi_eq"]]) for name in ("value", "low", "high"))
    ax.plot(times, value, color="black", linewidth=1.6, label="weighted fit, dotted: 95 %", gid="weighted_fit")
    for end in (low, high):
        ax.plot(times, end, color="black", linewidth=0.9, linestyle=":", gid="weighted_fit_end")


def length_limit(curve: Array, beside: Array | None) -> float:
    """Return the top of an axis of xi_eq: all of a curve but its divergence, what is beside it up to BEYOND times that.

    Args:
        curve: Median [time], NaN where undefined.
        beside: Another curve [time], or None.
    """
    defined = curve[np.isfinite(curve)]
    usual = float(np.quantile(defined, DEFINED)) if len(defined) else 0.0
    top = min(float(defined.max(initial=0.0)), BEYOND * usual) if usual > 0 else float(defined.max(initial=0.0))
    other = 0.0 if beside is None else float(np.nanmax(beside, initial=0.0))
    return 1.1 * (max(top, min(other, BEYOND * top)) if top > 0 else other) or 1.0


def _shade(ax: Axes, run: Run, name: str, text: str) -> Sequence[Polygon | Rectangle]:
    """Shade the bands in which the median of an array is undefined; a single measured point is no band."""
    bands = [band for band in run.results.values["undefined"][name] if band[0] > band[1]]
    spans = [ax.axvspan(*band, color=SHADE, linewidth=0, zorder=0, gid="undefined") for band in bands]
    for span in spans[:1]:
        span.set_label(text)
    return spans


def _why(run: Run) -> str:
    """Return why the drift's xi_eq is undefined where it is."""
    data = run.dataset
    fit = fit_dispersion(data["eigenvalue"].to_numpy(), data["k"].to_numpy())
    inside = np.isnan(median(data["xi_eq_drift"].to_numpy()))
    bent = ((fit.rate > 0) & (fit.curvature < 0))[:, inside].any()
    return r"$\lambda_0\leq 0$ or curvature $<0$" if bent else r"$\lambda_0\leq 0$"
