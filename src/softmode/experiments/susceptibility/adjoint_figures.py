r"""What guidance gains at every noise level, and chi(sigma) without guidance, on one axis."""

import math

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from softmode.cumulative import simultaneous
from softmode.estimate import Array, Estimate
from softmode.experiments.pulse.analyse import about
from softmode.experiments.pulse.critical import Critical
from softmode.experiments.susceptibility.adjoint_trials import WHAT, trials_of
from softmode.plots.noise_axis import interval, noise_axis
from softmode.runs.run import Run

BAND, CENTRE, LINE = "#f6d8b0", "#c00000", "tab:blue"
# how far beyond the mean's band the trials are shown, in its height
ROOM = 0.6


def susceptibility(run: Run) -> Figure:
    """Draw the gain per unit of log sigma and chi, each with its band and with all trials behind it.

    Args:
        run: A finished run of a susceptibility experiment by reverse sweeps.
    """
    trials, values, weight = trials_of(run), run.results.values, float(run.config["weight"])
    critical = Critical.stored(run) if "sigma_c" in run.identity else None
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    what = WHAT[run.config["alignment"]].removeprefix("the ")
    for ax, shares, kept, top, ends, text, unit in (
        (panels[0], trials.share, trials.whole, next(iter(values["argmax"].values())), values["interval"],
         f"gain of {what},\nw = 0 to {weight:g}", r"gain$/d\log\sigma$"),
        (panels[1], trials.response / weight, trials.begun, values["argmax_first"], values["interval_first"],
         "response without guidance", r"$\chi = dA/(dw\,d\log\sigma)$"),
    ):  # fmt: skip
        _curve(ax, trials.levels, (shares / trials.widths)[kept], trials.labels[kept])
        _marks(ax, critical, top, ends)
        ax.set_ylabel(unit)
        most = f"\nmost at {top}" if math.isfinite(top.value) else ""
        ax.text(0.985, 0.96, text + most, transform=ax.transAxes, va="top", ha="right", color=LINE)
    noise_axis(panels[-1], *interval(trials.levels))
    _legend(figure, critical)
    figure.suptitle(about(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def _curve(ax: Axes, levels: Array, curves: Array, labels: Array) -> None:
    """Draw trials faintly, their mean, and its simultaneous band, which the axis is made for."""
    ax.axhline(0, color="0.4", linewidth=1)
    if not len(curves):
        return
    ax.plot(levels, curves.T, color="0.5", linewidth=0.6, alpha=min(0.5, 10 / len(curves)), gid="trial", zorder=1)
    band = simultaneous(curves, labels.tolist()) if len(curves) > 1 else None
    mean = curves.mean(0)
    low, high = (mean, mean) if band is None else (band.low, band.high)
    ax.fill_between(levels, low, high, color=LINE, alpha=0.25, linewidth=0, gid="band")
    ax.plot(levels, mean, "o-", color=LINE, markersize=4, linewidth=2, gid="chi")
    bottom, top = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
    if top > bottom:
        ax.set_ylim(bottom - 0.15 * (top - bottom), top + ROOM * (top - bottom))


def _marks(ax: Axes, critical: Critical | None, top: Estimate, ends: list[Estimate]) -> None:
    """Draw the window, sigma_c, and across the top where 80 % and most is gained."""
    if critical is not None:
        if critical.window is not None:
            ax.axvspan(critical.window[1], critical.window[0], color=BAND, linewidth=0, zorder=0, gid="window")
        ax.axvline(critical.sigma_c.value, color=CENTRE, linestyle="--", linewidth=1.8, gid="sigma_c")
    across = ax.get_xaxis_transform()
    low, high = (each.value for each in ends)
    if np.isfinite([low, high]).all():
        ax.plot([low, high], [0.85, 0.85], color="0.15", linewidth=3, transform=across, gid="interval")
    if math.isfinite(top.value):
        ax.axvline(top.value, color="0.15", linestyle=":", linewidth=1.8, gid="argmax")


def _legend(figure: Figure, critical: Critical | None) -> None:
    handles: list[Artist] = [
        Patch(color=LINE, alpha=0.25, label="mean over trials, 95 % band of all of it"),
        Line2D([], [], color="0.15", linewidth=3, label="shortest interval with 80 %"),
        Line2D([], [], color="0.15", linestyle=":", label="where most is gained"),
    ]
    if critical is not None:
        handles.append(
            Line2D([], [], color=CENTRE, linestyle="--", label=rf"$\sigma_c$ = {critical.sigma_c.value:.3g}")
        )
        if critical.window is not None:
            handles.append(Patch(color=BAND, label="window, found without guidance"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize="medium")


FIGURES = {"susceptibility": susceptibility}
