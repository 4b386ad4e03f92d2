r"""The susceptibility curve chi(sigma) beside the window, and what the window's probe and clones say there."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from softmode.critical import fit_dispersion
from softmode.estimate import Array, Estimate, median
from softmode.experiments.pulse.analyse import about
from softmode.experiments.pulse.critical import WINDOW, Critical
from softmode.experiments.susceptibility.pulses_analyse import MAIN
from softmode.plots.curve_lines import trajectories_and_median
from softmode.plots.length_panel import GAIN
from softmode.plots.noise_axis import interval, noise_axis
from softmode.runs.experiment import Experiment
from softmode.runs.run import Run
from softmode.runs.store import is_run

CLONES = Experiment("clones", "softmode.experiments.clones")
BAND, CENTRE, TOP = "#f6d8b0", "#c00000", "0.15"
PANELS = {
    "probability": (r"$\chi_p = \Delta p / w\,\Delta\log\sigma$", "probability of the class", "tab:blue"),
    "logit": (r"$\chi_z = \Delta z / w\,\Delta\log\sigma$", "logit of the class", "tab:purple"),
    "change": (r"rms change$/w\,\Delta\log\sigma$", "sample, no classifier", "tab:brown"),
}
KINDS = {"class": ("s-", "in class"), "sign": ("^-", "in sign")}
# room for labels above a curve, and heights of the intervals in it, as shares of a panel
HEADROOM, HEIGHTS = 0.3, (0.86, 0.8)


def susceptibility(run: Run) -> Figure:
    r"""Draw chi against the centre of the pulse with 95 % intervals, its maximum, sigma_c and the window.

    The dashed red line is sigma_c, the band the window; the dotted lines are the maxima of chi. Short horizontal lines
    are the 95 % intervals of both.

    Args:
        run: A finished run of a susceptibility experiment.
    """
    values, critical = run.results.values, Critical.stored(run)
    centres = np.array(values["centres"])
    figure = Figure(figsize=(11, 9.5), layout="constrained")
    panels = figure.subplots(len(PANELS), 1, sharex=True)
    for ax, (measure, (label, what, color)) in zip(panels, PANELS.items(), strict=True):
        _chi(ax, centres, values["curves"][measure], color)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + HEADROOM * (high - low))
        ax.set_ylabel(label)
        argmax = values["argmax"][measure]
        _mark(ax, critical, argmax, color)
        corner = {"transform": ax.transAxes, "va": "top", "color": color}
        ax.text(0.015, 0.96, what, **corner)
        ax.text(0.985, 0.96, f"largest at {argmax}", ha="right", **corner)
    noise_axis(panels[-1], *interval(centres))
    _legend(figure, critical, r"maximum of $\chi$, 95 %")
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def susceptibility_details(run: Run) -> Figure | None:
    r"""Draw $\xi_{\mathrm{eq}}$ of the window's probe and the agreement of its clones over the noise levels of chi.

    Args:
        run: A finished run of a susceptibility experiment; without the window's own run there is nothing to draw.
    """
    found = _window(run)
    if found is None:
        return None
    values, critical = run.results.values, Critical.stored(run)
    home = found.directory / "clones"
    clones = Run(home, CLONES) if (home / "summary.json").is_file() else None
    figure = Figure(figsize=(11, 7.5 if clones else 4.6), layout="constrained")
    panels = figure.subplots(2 if clones else 1, 1, sharex=True, squeeze=False)[:, 0]
    _lengths(panels[0], found)
    if clones is not None:
        _agreement(panels[1], clones)
    for ax in panels:
        _mark(ax, critical, values["argmax"][MAIN], TOP, intervals=False)
    noise_axis(panels[-1], *interval(np.array(values["centres"])))
    _legend(figure, critical, rf"maximum of $\chi_p$: {values['argmax'][MAIN]}")
    figure.suptitle(f"{_caption(run)}; beside them the window's probe", parse_math=False, fontsize="medium", wrap=True)
    return figure


def _caption(run: Run) -> str:
    return f"{about(run)}\npulses of width {run.config['width']:g} in log sigma"


def _window(run: Run) -> Run | None:
    """Return the run of the window that sigma_c is from, if it is still there."""
    config = run.config
    found = Run(Path(config["window"]) if config["window"] else run.directory / "window", WINDOW)
    if not is_run(found.directory) or not found.results_file.is_file():
        return None
    return found if found.identity["model"]["name"] == run.identity["model"]["name"] else None


def _chi(ax: Axes, centres: Array, curve: Sequence[Estimate], color: str) -> None:
    ax.axhline(0, color="0.4", linewidth=1)
    low, high = ([getattr(e, end) for e in curve] for end in ("low", "high"))
    ax.fill_between(centres, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(centres, [e.value for e in curve], "o-", color=color, gid="chi")


def _lengths(ax: Axes, found: Run) -> None:
    """Draw xi_eq, convention-free, of the probe of the window (Eq. 69)."""
    data = found.dataset
    gain, k = data["gain"].to_numpy(), data["k"].to_numpy()
    softness = fit_dispersion(1 - gain, k).softness(math.pi / k[1].min())
    levels, curves = data["noise_level"].to_numpy(), np.sqrt(np.expm1(softness))
    trajectories_and_median(ax, levels, curves, GAIN, GAIN)
    middle = median(curves)
    first, last = interval(levels)
    inside = middle[(levels < min(first, 40.0)) & (levels > max(last, 0.04))]
    ax.set_ylim(0, 2 * float(np.nanmax(inside)) if np.isfinite(inside).any() else None)
    ax.set_ylabel(r"$\xi_{\mathrm{eq}}$ (sites)")
    ax.text(0.015, 0.95, "convention-free", transform=ax.transAxes, va="top", color=GAIN)


def _agreement(ax: Axes, clones: Run) -> None:
    """Draw the mean agreement of each kind with its 95 % intervals; names stand above and below the first points."""
    levels, agreement = clones.dataset["copy_level"].to_numpy(), clones.results.values["agreement"]
    highest = max(agreement, key=lambda kind: agreement[kind][0].value)
    for kind, estimates in agreement.items():
        style, name = KINDS[kind]
        values = [e.value for e in estimates]
        bars = np.array([[e.value - e.low, e.high - e.value] for e in estimates]).T
        ax.errorbar(levels, values, bars, fmt=style, color="0.35", markersize=6, linewidth=1.2, capsize=2, gid=kind)
        shift, va = (8, "bottom") if kind == highest else (-8, "top")
        ax.annotate(name, (levels[0], values[0]), (8, shift), textcoords="offset points", va=va)
    ax.set_ylim(-0.15, 1.15)
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_ylabel("agreement of clones")


def _mark(ax: Axes, critical: Critical, argmax: Estimate, color: str, intervals: bool = True) -> None:
    """Draw the window as a band, and sigma_c and the maximum as lines with their intervals across."""
    if critical.window is not None:
        low, high = critical.window
        ax.axvspan(high, low, color=BAND, linewidth=0, zorder=0, gid="window")
    marks = ((critical.sigma_c, CENTRE, "--", "sigma_c"), (argmax, color, ":", "argmax"))
    for (estimate, mark, style, gid), height in zip(marks, HEIGHTS, strict=True):
        ax.axvline(estimate.value, color=mark, linestyle=style, linewidth=1.8, gid=gid)
        if intervals and estimate.samples and math.isfinite(estimate.low):
            across = ax.get_xaxis_transform()
            ax.plot([estimate.low, estimate.high], [height] * 2, color=mark, linewidth=2.5, transform=across,
                    gid=f"{gid}_interval")  # fmt: skip


def _legend(figure: Figure, critical: Critical, maximum: str) -> None:
    sigma_c = critical.sigma_c
    value = f"{sigma_c}" if sigma_c.samples else f"{sigma_c.value:.3g}"
    handles: list[Artist] = (
        [] if critical.window is None else [Patch(color=BAND, label="window, found without guidance")]
    )
    handles += [
        Line2D([], [], color=CENTRE, linestyle="--", label=rf"$\sigma_c$ = {value}"),
        Line2D([], [], color=TOP, linestyle=":", label=maximum),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="medium")


FIGURES = {"susceptibility": susceptibility, "susceptibility_details": susceptibility_details}
