"""The figure of mode gains of a probed model beside the null model, which bounds them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from softmode.estimate import Array
from softmode.experiments.probe.analyse import BOUND_STDERRS
from softmode.plots.caption import caption
from softmode.plots.curve_lines import shell_colourbar, shell_colours
from softmode.plots.noise_axis import interval, noise_axis
from softmode.runs.run import Run

# highest noise level in view: data of order one are lost in the noise there, on any lattice of up to a thousand sites
HIGHEST = 1000.0


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
    figure = Figure(figsize=(11, 10.5 if bounded else 7), layout="constrained")
    rows = figure.subplots(2 if bounded else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 2][: 1 + bounded])
    panels: list[Axes] = list(rows[:, 0])
    handles = _gain_curves(panels[0], run)
    if bounded:
        _excess_curves(panels[1], run)
        handles += _violations(panels, run)
    shell_colourbar(panels, run.dataset.sizes["shell"])
    levels = run.dataset["noise_level"].to_numpy()
    for ax in panels:
        noise_axis(ax, *interval(levels[levels <= HIGHEST] if (levels <= HIGHEST).any() else levels))
        ax.label_outer()
    figure.align_ylabels(panels)
    figure.legend(handles=handles, loc="outside lower center")
    figure.suptitle(caption(run), parse_math=False, fontsize="medium")
    return figure


def _gain_curves(ax: Axes, run: Run) -> list[Artist]:
    """Plot medians with their errors and the bound, by shell; return the legend's entries."""
    data, table = run.dataset, run.results.values["gain"]
    levels, shells = data["noise_level"].to_numpy(), data.sizes["shell"]
    # null in the results, where a single trajectory has no error, becomes NaN
    value, stderr = (np.array(table[name], dtype=float).mean(-1) for name in ("median", "stderr"))
    for n, color in enumerate(shell_colours(shells)(np.arange(shells))):
        ax.plot(levels, value[:, n], color=color, linewidth=1.8, gid=f"gain_{n}")
        _band(ax, levels, value[:, n], stderr[:, n], color)
        if "null_gain" in data:
            bound = data["null_gain"].to_numpy()[:, n].mean(-1)
            ax.plot(levels, bound, color=color, linewidth=1.4, linestyle="--", gid=f"bound_{n}")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_ylabel("mode gain $G_n$")
    ax.set_title("Gains of Fourier modes")
    label = r"gain $G_n$, median" + (r" $\pm$ standard error" if np.isfinite(stderr).any() else "")
    handles: list[Artist] = [Line2D([], [], color="0.3", linewidth=1.8, label=label)]
    if "null_gain" in data:
        label = r"null model and bound, $S_n/(S_n+(\sigma/\alpha)^2)$"
        handles.append(Line2D([], [], color="0.3", linewidth=1.4, linestyle="--", label=label))
    return handles


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
        ax.plot(levels, value[:, n], color=color, linewidth=1.8, gid=f"excess_{n}")
        _band(ax, levels, value[:, n], stderr[:, n], color)
    ax.axhline(0, color="black", linewidth=0.8, zorder=1)
    ax.set_ylabel(r"$\langle G_n\rangle$ $-$ bound")
    ax.set_title("Mean gain minus its bound" + (r" ($\pm$ standard error)" if np.isfinite(stderr).any() else ""))


def _band(ax: Axes, levels: Array, value: Array, stderr: Array, color: Any) -> None:
    if np.isfinite(stderr).any():
        ax.fill_between(levels, value - stderr, value + stderr, color=color, alpha=0.2, linewidth=0)


def _violations(panels: list[Axes], run: Run) -> list[Artist]:
    """Mark in both panels the gains that the analysis found above the bound; return the legend's entry."""
    check = run.results.values["bound"]
    if not check["checked"]:
        return [_note(f"bound not checked: {check['reason']}")]
    limit = f"by more than {BOUND_STDERRS:.0f} standard errors"
    if not check["violations"]:
        return [_note(f"no gain is above the bound {limit} ({check['comparisons']} comparisons)")]
    levels, shells = run.dataset["noise_level"].to_numpy(), run.dataset.sizes["shell"]
    for band in check["violations"]:
        n = band["shell"]
        at = np.flatnonzero((levels <= band["sigma_from"]) & (levels >= band["sigma_to"]))
        for ax, name in zip(panels, ("gain", "excess"), strict=True):
            (curve,) = (line for line in ax.lines if line.get_gid() == f"{name}_{n}")
            ax.plot(
                levels[at], np.asarray(curve.get_ydata())[at], linestyle="", marker="X", markersize=9,
                color=shell_colours(shells)(n), markeredgecolor="black", gid=f"violation_{n}", zorder=3,
            )  # fmt: skip
    named = [_violation(band) for band in check["violations"][:VALUES_NAMED]]
    more = len(check["violations"]) - len(named)
    text = "\n".join([f"above the bound {limit}:", *named, *([f"   … and {more} more"] if more else [])])
    return [Line2D([], [], linestyle="", marker="X", markersize=9, color="0.7", markeredgecolor="black", label=text)]


def _violation(band: Mapping[str, Any]) -> str:
    first, last = (f"{band[end]:.3g}" for end in ("sigma_from", "sigma_to"))
    where = f"= {first}" if first == last else f"from {first} to {last}"
    return rf"   $n={band['shell']}$, $\sigma/\alpha$ {where}, at most by {band['excess']:.2g}"


def _note(text: str) -> Line2D:
    return Line2D([], [], linestyle="", label=text)
