"""Susceptibility, memory and states of a frozen network against the noise level."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Array, Estimate
from softmode.experiments.equilibrium.network_measure import STARTS
from softmode.experiments.equilibrium.network_memory import LOST, Memory, Remembered
from softmode.plots.fields import COLOURS, NORM, visible
from softmode.plots.noise_axis import interval, noise_axis
from softmode.plots.palette import BLUE, GREEN, GREY, ORANGE, VERMILLION
from softmode.runs.run import Run

# noise levels whose states are drawn, and chains of each start
COLUMNS, CHAINS = 6, 2
# largest standard error of a memory that is drawn, and the factor in time between curves
TOLD, APART = 0.3, 1.03
TEXT = 13


def frozen(run: Run) -> Figure:
    """Draw susceptibility and correlation length within chains, and the memory of the start, by noise level.

    Args:
        run: A finished run of a network.

    Source: paper Sec. 5.
    """
    rows = run.results.values["rows"]
    levels = np.array([row["sigma"] for row in rows])
    figure = Figure(figsize=(10, 11), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[4, 3, 3])
    _curve(top, levels, [row["chi"][0] for row in rows], BLUE, "o", "network, from noise")
    _curve(top, levels, [row["chi_ordered"] for row in rows], VERMILLION, "s", "network, from one image")
    if rows[0]["null"] is not None:
        _curve(top, levels, [row["null"] for row in rows], GREY, "^", "Gaussian null, from noise")
        top.plot(
            levels, [row["data"] for row in rows], ":", color="black", linewidth=1.8, label="exact law, no time limit"
        )
        top.set_ylim(0.5, 3 * max(row[name].value for row in rows for name in ("null", "chi_ordered")))
    top.set_yscale("log")
    top.set_ylabel(r"$\chi_0 = \mathrm{Var}(v_0\cdot x)/\sigma^2$")
    top.legend(loc="upper left")
    _curve(middle, levels, [row["xi"] for row in rows], BLUE, "o", "")
    middle.set_ylim(bottom=0)
    middle.set_ylabel(r"$\xi$ within chains (sites)")
    _curve(bottom, levels, [row["memory"] for row in rows], VERMILLION, "s", "")
    bottom.axhline(0, color=GREY, linewidth=1)
    bottom.set_ylim(-0.25, 1.1)
    bottom.set_ylabel(f"memory after {run.config['duration']:g} $\\sigma^2$")
    noise_axis(bottom, *interval(levels))
    for ax in (top, middle, bottom):
        _mark(ax, run.results.values["memory_level"])
    figure.suptitle(
        f"{_caption(run)}\nbars: 95 %; hollow: in doubt; shaded: the start is remembered; lighter: not known",
        parse_math=False,
        fontsize="medium",
        wrap=True,
    )
    return figure


def _curve(ax: Axes, levels: Array, found: list[Estimate], color: str, marker: str, text: str) -> None:
    """Draw estimates with 95 % intervals; hollow where in doubt."""
    value, low, high = (np.array([getattr(each, name) for each in found]) for name in ("value", "low", "high"))
    ax.errorbar(levels, value, (value - low, high - value), color=color, linewidth=1.6, capsize=3, marker=marker,
                markersize=7, label=text or None, gid=text)  # fmt: skip
    doubt = np.array([bool(each.reason) for each in found])
    ax.plot(levels[doubt], value[doubt], marker, color=color, markerfacecolor="white", markersize=7, zorder=3)


def _mark(ax: Axes, level: Estimate) -> None:
    """Shade the noise levels at which the start is remembered, and lighter those at which that is not known."""
    if math.isfinite(level.value):
        ax.axvspan(level.low, ax.get_xlim()[1], color=ORANGE, alpha=0.15, linewidth=0, gid="memory")
        ax.axvspan(level.low, level.high, color=ORANGE, alpha=0.06, linewidth=0, gid="unknown")


def forgetting(run: Run) -> Figure:
    """Draw the memory of the start against time: at the lowest noise level, and at those around its loss.

    Args:
        run: A finished run of a network.
    """
    memory, rows = Memory.of(run), run.results.values["rows"]
    levels = [row["sigma"] for row in rows]
    known = Remembered.of(levels, [row["memory"] for row in rows])
    # the lowest, the last that remembers, one of those between, the first that forgets
    named = (0, known.below - 1, (known.below + known.above) // 2, known.above)
    places = sorted({min(max(place, 0), len(levels) - 1) for place in named})
    figure = Figure(figsize=(10, 6), layout="constrained")
    ax = figure.subplots()
    for i, (place, color) in enumerate(zip(places, (VERMILLION, ORANGE, GREEN, BLUE), strict=False)):
        found = memory.curve(place)
        value, error = (np.array([getattr(each, name) for each in found]) for name in ("value", "stderr"))
        told = (error <= TOLD) & (memory.times > 0)
        # side by side, so that errors do not hide each other
        times = memory.times[told] * APART ** (i - (len(places) - 1) / 2)
        ax.errorbar(times, value[told], error[told], fmt="o-", color=color, linewidth=1.8, capsize=3, markersize=6,
                    label=rf"$\sigma$ = {levels[place]:.2g}", gid=f"{place}")  # fmt: skip
    ax.axhline(0, color=GREY, linewidth=1)
    ax.axhline(LOST, color=GREY, linewidth=1.2, linestyle=":")
    ax.set_xscale("log")
    ax.set_ylim(-0.3, 1.1)
    ax.set_xlabel(r"time with the score frozen (units of $\sigma^2$)")
    ax.set_ylabel("memory of the image at the start")
    ax.legend(loc="lower left")
    text = f"one standard error, points with more than {TOLD:g} left out; dotted: 1/e, below which it counts as lost"
    figure.suptitle(f"{_caption(run)}\n{text}", parse_math=False, fontsize="medium", wrap=True)
    return figure


def states(run: Run) -> Figure | None:
    """Draw what the network makes of its states at the end, from one image and from noise, at a few noise levels.

    Args:
        run: A finished run of images.
    """
    denoised = run.dataset["denoised"]
    if denoised.ndim != 7:
        return None
    levels = run.dataset["level"].to_numpy()
    # as generation runs
    places = sorted({round(float(i)) for i in np.linspace(0, len(levels) - 1, min(COLUMNS, len(levels)))}, reverse=True)
    shown = [(start, chain) for start in ("ordered", "disordered") for chain in range(CHAINS)]
    figure = Figure(figsize=(1.75 * len(places) + 1.2, 1.75 * len(shown) + 0.8), layout="constrained")
    panels = figure.subplots(len(shown), len(places), squeeze=False)
    for row, (start, chain) in enumerate(shown):
        fields = denoised[chain, STARTS.index(start), :, -1].to_numpy()
        for ax, place in zip(panels[row], places, strict=True):
            ax.imshow(visible(fields[place]), cmap=COLOURS, norm=NORM, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            if row == 0:
                ax.set_title(rf"$\sigma$ = {levels[place]:.2g}", fontsize=TEXT)
        panels[row][0].set_ylabel("from one image" if start == "ordered" else "from noise", fontsize=TEXT)
    figure.suptitle(
        f"{_caption(run)}; D(x) after {run.config['duration']:g} sigma^2",
        parse_math=False,
        fontsize="medium",
        wrap=True,
    )
    return figure


def _caption(run: Run) -> str:
    config, name = run.config, Path(run.identity["model"]["name"]).name
    kind = "Langevin" if config["dynamics"] == "langevin" else "frozen reverse SDE"
    return (
        f"frozen {name}, {kind}, {config['trajectories']} chains of each start, step {config['step']:g}, "
        f"seed {config['seed']}"
    )


FIGURES = {"equilibrium": frozen, "forgetting": forgetting, "states": states}
