r"""What guidance gains at every noise level, chi, what is known of the label, on one axis; classes; the knee."""

import math

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from softmode.cumulative import rates, simultaneous
from softmode.estimate import Array, Estimate
from softmode.experiments.pulse.analyse import about
from softmode.experiments.pulse.critical import Critical
from softmode.experiments.susceptibility.adjoint_trials import trials_of, what_of
from softmode.experiments.susceptibility.known import LabelKnown
from softmode.plots.noise_axis import LABEL, interval, noise_axis
from softmode.plots.palette import GREY, PURPLE
from softmode.runs.run import Run

BAND, CENTRE, LINE = "#f6d8b0", "#c00000", "tab:blue"
# how far beyond the mean's band the trials are shown, in its height
ROOM = 0.6
# classes that are drawn at most, and panels in a row
MOST_CLASSES, ACROSS = 12, 4


def susceptibility(run: Run) -> Figure:
    """Draw the gain per unit of log sigma and chi, each with its band and all trials, and the label's information.

    Args:
        run: A finished run of a susceptibility experiment by reverse sweeps.
    """
    trials, values, weight = trials_of(run), run.results.values, float(run.config["weight"])
    critical = Critical.stored(run) if "sigma_c" in run.identity else None
    known = LabelKnown.stored(run)
    figure = Figure(figsize=(11, 8.5 if known is None else 11.5), layout="constrained")
    panels = figure.subplots(2 if known is None else 3, 1, sharex=True)
    what = what_of(run.config["alignment"]).removeprefix("the ")
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
    if known is not None:
        _known(panels[2], known, values["half"], critical)
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
    _window(ax, critical)
    across = ax.get_xaxis_transform()
    low, high = (each.value for each in ends)
    if np.isfinite([low, high]).all():
        ax.plot([low, high], [0.85, 0.85], color="0.15", linewidth=3, transform=across, gid="interval")
    if math.isfinite(top.value):
        ax.axvline(top.value, color="0.15", linestyle=":", linewidth=1.8, gid="argmax")


def _window(ax: Axes, critical: Critical | None) -> None:
    if critical is None:
        return
    if critical.window is not None:
        ax.axvspan(critical.window[1], critical.window[0], color=BAND, linewidth=0, zorder=0, gid="window")
    ax.axvline(critical.sigma_c.value, color=CENTRE, linestyle="--", linewidth=1.8, gid="sigma_c")


def _known(ax: Axes, known: LabelKnown, half: Estimate, critical: Critical | None) -> None:
    """Draw how fast the label becomes known, and by where half of it is."""
    band = simultaneous(rates(known.information, known.levels), known.truth.tolist())
    at = np.sqrt(known.levels[1:] * known.levels[:-1])
    ax.axhline(0, color="0.4", linewidth=1)
    ax.fill_between(at, band.low, band.high, color=PURPLE, alpha=0.25, linewidth=0)
    ax.plot(at, band.mean, color=PURPLE, linewidth=2, gid="known")
    _window(ax, critical)
    if math.isfinite(half.value):
        ax.axvline(half.value, color=PURPLE, linestyle="-.", linewidth=1.8, gid="half")
    ax.set_ylabel(r"nats$/d\log\sigma$")
    ax.text(0.985, 0.96, f"label becomes known,\nhalf by {half}, dash-dotted", transform=ax.transAxes, va="top",
            ha="right", color=PURPLE)  # fmt: skip


def _legend(figure: Figure, critical: Critical | None) -> None:
    handles: list[Artist] = [
        Patch(color=LINE, alpha=0.25, label="mean over trials (grey), simultaneous 95 % band"),
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


def classes(run: Run) -> Figure | None:
    """Draw the gain of each class per unit of log sigma, a panel each with its trials; None of one class.

    Args:
        run: A finished run of a susceptibility experiment by reverse sweeps.
    """
    trials, values = trials_of(run), run.results.values["classes"]
    shown = list(values)[:MOST_CLASSES]
    if len(shown) < 2:
        return None
    across = min(ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    figure = Figure(figsize=(11, 1.6 + 2.4 * down), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    curves, height = trials.share / trials.widths, []
    for place, name in enumerate(shown):
        ax, kept = panels.flat[place], trials.whole & (trials.labels == int(name))
        ax.axhline(0, color="0.4", linewidth=1)
        ax.text(0.96, 0.95, f"class {name}", transform=ax.transAxes, ha="right", va="top")
        if not kept.any():
            continue
        mean, own = curves[kept].mean(0), curves[kept]
        ax.plot(trials.levels, own.T, color="0.5", linewidth=0.6, alpha=0.4, zorder=1, gid="trial")
        ax.plot(trials.levels, mean, color=LINE, linewidth=2.2, gid="chi")
        height += [float(mean.min()), float(mean.max())]
        low, high = (each.value for each in values[name]["interval"])
        if math.isfinite(low + high):
            dark = "0.15" if values[name]["sure"] else "0.8"
            ax.plot([low, high], [0.78, 0.78], color=dark, linewidth=3, transform=ax.get_xaxis_transform(),
                    gid="interval")  # fmt: skip
    if height:
        span = max(*height, 0.0) - min(*height, 0.0)
        panels[0, 0].set_ylim(min(*height, 0.0) - 0.1 * span, max(*height, 0.0) + 0.5 * span)
    for ax in panels.flat[len(shown) :]:
        ax.set_visible(False)
    noise_axis(panels[0, 0], *interval(trials.levels))
    for ax in panels.flat:
        ax.set_xlabel("")
    figure.supxlabel(rf"{LABEL} (generation $\rightarrow$)", fontsize="medium")
    figure.supylabel(r"gain$/d\log\sigma$", fontsize="medium")
    more = f"; the first {MOST_CLASSES} of {len(values)}" if len(values) > MOST_CLASSES else ""
    what = what_of(run.config["alignment"]).removeprefix("the ")
    said = "mean, trials, and the interval with 80 %, black where the gain is more than twice its error"
    figure.suptitle(f"Gain of {what} by class: {said}{more}", parse_math=False, fontsize="medium", wrap=True)
    return figure


def strength(run: Run) -> Figure | None:
    """Draw alignment against Fréchet distance at the weights that were tried, and the knee; None without distances.

    Args:
        run: A finished run of a susceptibility experiment by reverse sweeps.

    Source: satopaa2011.
    """
    found = run.results.values["strength"]
    if not found["distance"]:
        return None
    far, aligned = found["distance"], found["alignment"]
    x, y, weights = np.array([e.value for e in far]), np.array([e.value for e in aligned]), np.array(found["weights"])
    figure = Figure(figsize=(9, 6), layout="constrained")
    ax = figure.subplots()
    ax.plot(x, y, color=LINE, linewidth=1.5, zorder=1)
    ax.errorbar(x, y, xerr=[e.stderr for e in far], yerr=[e.stderr for e in aligned], fmt="o", color=LINE, capsize=3,
                gid="strengths")  # fmt: skip
    for place, weight in enumerate(weights):
        ax.annotate(f"w = {weight:.3g}", (x[place], y[place]), xytext=(8, 6), textcoords="offset points")
    knee = found["knee"]
    if math.isfinite(knee.value):
        order = np.argsort(weights)
        at = [np.interp(knee.value, weights[order], each[order]) for each in (x, y)]
        ax.plot(at[0], at[1], "D", color=CENTRE, markersize=10, gid="knee", zorder=3)
        ax.set_title(f"knee at w = {knee} {knee.interval}", color=CENTRE, fontsize="medium")
    else:
        ax.set_title(f"no knee: {knee.reason}", color=GREY, fontsize="medium", wrap=True)
    ax.margins(0.15)
    what = "probability" if run.config["alignment"] == "change" else run.config["alignment"]
    ax.set_ylabel(what_of(what).removeprefix("the "))
    ax.set_xlabel("Fréchet distance to real images (classifier's features)")
    figure.suptitle(about(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


FIGURES = {"susceptibility": susceptibility, "classes": classes, "strength": strength}
