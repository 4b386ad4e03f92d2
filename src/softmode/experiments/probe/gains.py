"""The figure of mode gains of a probed model beside the null model, which bounds them."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Array
from softmode.experiments.probe.analyse import BOUND_STDERRS
from softmode.plots.caption import caption
from softmode.plots.critical_dynamics import WIDTH, lettered
from softmode.plots.curve_lines import shell_colourbar, shell_colours
from softmode.plots.noise_axis import interval, noise_axis
from softmode.plots.palette import GREY
from softmode.runs.run import Run

# highest noise level in view: data of order one are lost in the noise there, on any lattice of up to a thousand sites
HIGHEST = 1000.0
TITLES = ("gains of Fourier modes", "mean gain minus its bound")


def gains(run: Run) -> Figure:
    r"""Draw the mode gains $G_n$ of every shell against the noise level, and how far they are from their bound.

    Above: the median over trajectories, with its standard error as a band, beside the null model's gain
    $S_n/(S_n+\sigma^2)$, which no exact score exceeds on average over noised data. Below: the mean over trajectories
    minus that bound, with the standard error of the mean. Gains are averaged over the axes, errors too, as if those
    were not independent. Crosses: gains above the bound by more than the probe's threshold on any axis. Noise levels
    above HIGHEST are left out of the view, not of the check.

    Args:
        run: A finished run of a probe; without the null model only the gains are drawn.

    Source: the bound is MMSE <= linear MMSE, averaged over the data.
    """
    bounded = "null_gain" in run.dataset
    figure = Figure(figsize=(WIDTH, 9.5 if bounded else 6), layout="constrained")
    rows = figure.subplots(1 + bounded, 1, sharex=True, squeeze=False, height_ratios=[3, 2][: 1 + bounded])
    panels: list[Axes] = list(rows[:, 0])
    _gain_curves(panels[0], run)
    if bounded:
        _excess_curves(panels[1], run)
        _violations(panels, run)
    lettered(panels, TITLES)
    shell_colourbar(panels, run.dataset.sizes["shell"])
    levels = run.dataset["noise_level"].to_numpy()
    for ax in panels:
        noise_axis(ax, *interval(levels[levels <= HIGHEST] if (levels <= HIGHEST).any() else levels))
        ax.label_outer()
        ax.legend(loc="best")
    figure.align_ylabels(panels)
    note = f"\n{bound_note(run)}" if bounded else ""
    figure.suptitle(f"{caption(run)}{note}", parse_math=False, fontsize="medium")
    return figure


def _gain_curves(ax: Axes, run: Run) -> None:
    """Plot medians with their errors and the bound, by shell."""
    data, table = run.dataset, run.results.values["gain"]
    levels, shells = data["noise_level"].to_numpy(), data.sizes["shell"]
    # null in the results, where a single trajectory has no error, becomes NaN
    value, stderr = (np.array(table[name], dtype=float).mean(-1) for name in ("median", "stderr"))
    for n, color in enumerate(shell_colours(shells)(np.arange(shells))):
        ax.plot(levels, value[:, n], color=color, linewidth=2.0, gid=f"gain_{n}")
        _band(ax, levels, value[:, n], stderr[:, n], color)
        if "null_gain" in data:
            bound = data["null_gain"].to_numpy()[:, n].mean(-1)
            ax.plot(levels, bound, color=color, linewidth=1.4, linestyle="--", gid=f"bound_{n}")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_ylabel("mode gain $G_n$")
    ax.plot([], [], color=GREY, linewidth=2.0, label="median" + _error(stderr))
    if "null_gain" in data:
        label = r"Gaussian null, the bound $S_n/(S_n+(\sigma/\alpha)^2)$"
        ax.plot([], [], color=GREY, linewidth=1.4, linestyle="--", label=label)


def mean_excess(run: Run) -> tuple[Array, Array]:
    """Return the mean gain over trajectories and axes minus its bound, and its standard error, both [time, shell].

    The error is NaN for a single trajectory.
    """
    data = run.dataset
    excess = (data["gain"].to_numpy() - data["null_gain"].to_numpy()).mean(-1)
    count = len(excess)
    stderr = excess.std(0, ddof=1) / math.sqrt(count) if count > 1 else np.full(excess.shape[1:], np.nan)
    return excess.mean(0), stderr


def _excess_curves(ax: Axes, run: Run) -> None:
    levels, shells = run.dataset["noise_level"].to_numpy(), run.dataset.sizes["shell"]
    value, stderr = mean_excess(run)
    for n, color in enumerate(shell_colours(shells)(np.arange(shells))):
        ax.plot(levels, value[:, n], color=color, linewidth=2.0, gid=f"excess_{n}")
        _band(ax, levels, value[:, n], stderr[:, n], color)
    ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    ax.set_ylabel(r"$\langle G_n\rangle$ $-$ bound")
    ax.plot([], [], color=GREY, linewidth=2.0, label="mean" + _error(stderr))


def _error(stderr: Array) -> str:
    return r" $\pm$ standard error" if np.isfinite(stderr).any() else ""


def _band(ax: Axes, levels: Array, value: Array, stderr: Array, color: Any) -> None:
    if np.isfinite(stderr).any():
        ax.fill_between(levels, value - stderr, value + stderr, color=color, alpha=0.2, linewidth=0)


def _violations(panels: list[Axes], run: Run) -> None:
    """Mark in both panels the gains that the analysis found above the bound."""
    levels, shells = run.dataset["noise_level"].to_numpy(), run.dataset.sizes["shell"]
    style: dict[str, Any] = {"linestyle": "", "marker": "X", "markersize": 9, "markeredgecolor": "black", "zorder": 3}
    for band in run.results.values["bound"].get("violations", []):
        n = band["shell"]
        at = np.flatnonzero((levels <= band["sigma_from"]) & (levels >= band["sigma_to"]))
        for ax, name in zip(panels, ("gain", "excess"), strict=True):
            (curve,) = (line for line in ax.lines if line.get_gid() == f"{name}_{n}")
            height = np.asarray(curve.get_ydata())[at]
            ax.plot(levels[at], height, color=shell_colours(shells)(n), gid=f"violation_{n}", **style)
    if any(str(line.get_gid()).startswith("violation") for line in panels[0].lines):
        panels[0].plot([], [], color=GREY, label="above the bound", **style)


def bound_note(run: Run) -> str:
    """Return what came of the comparison of the mean gains with their bound, in one line."""
    check, limit = run.results.values["bound"], f"above the bound by more than {BOUND_STDERRS:.0f} standard errors"
    if not check["checked"]:
        return f"bound not checked: {check['reason']}"
    verb = "is" if check["above"] < 2 else "are"
    return f"{check['above'] or 'none'} of {check['comparisons']} mean gains {verb} {limit}"
