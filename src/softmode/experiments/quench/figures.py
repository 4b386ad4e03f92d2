"""Lengths against the rate of a quench, their collapse around the critical level, and the last states."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softmode.estimate import Array, Estimate
from softmode.experiments.quench.analyse import PAPER_RATE
from softmode.experiments.quench.found import DECAY, PAPER, SHARE, WALLS, XI, Found
from softmode.experiments.quench.theory import Theory
from softmode.formulas.kibble_zurek import COARSENING, critical_level
from softmode.plots.fields import draw_signs
from softmode.plots.palette import BLUE, GREEN, GREY, PURPLE, VERMILLION
from softmode.runs.run import Run

TEXT = 13
# colours of the rates in the collapse, a legend's entries with the frozen score
LINES = (PURPLE, BLUE, GREEN)
# factors between the lines of theory and the lengths, so that both are seen
ABOVE, BELOW = 1.12, 0.9


def kibble_zurek(run: Run) -> Figure:
    """Draw lengths against the rate: at the critical level and beyond it, and at the end.

    Dashed and dotted are the slopes of Kibble and Zurek and of coarsening, through the last length.

    Args:
        run: A finished run.

    Source: kibble1976; zurek1985; allen1979.
    """
    found = Found.of(run)
    lengths, theory = run.results.values["lengths"], Theory.of(found)
    way = [(name, XI, label, color) for name, label, color in (
               ("own", r"$\xi$ at $\sigma_c\sqrt{1+1/R}$", BLUE), ("critical", r"$\xi$ at $\sigma_c$", VERMILLION))
           if name in lengths]  # fmt: skip
    end = [("end", WALLS, "sites per wall", PURPLE), ("end", DECAY, "1/e of $C(r)$", GREEN),
           ("end", PAPER, r"$\xi_x$ (Eq. 63)", BLUE)]  # fmt: skip
    drawn = [part for part in ((way, "on the way: correlations of $x$"), (end, "at the end: signs")) if part[0]]
    figure = Figure(figsize=(5.7 * len(drawn) + 0.4, 5.6), layout="constrained")
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for ax, (lines, title) in zip(panels, drawn, strict=True):
        for name, which, label, color in lines:
            _points(ax, found, lengths[name][which], label, color)
        first = lines[0]
        _slopes(ax, found["rate"], lengths[first[0]][first[1]], theory)
        if PAPER_RATE in found["rate"]:
            ax.axvline(PAPER_RATE, color=GREY, linewidth=1.2, zorder=0)
        _rate_axis(ax)
        ax.set_title(title)
        ax.legend(loc="upper left")
    panels[0].set_ylabel("length (sites)")
    key = rf"dashed: $R^{{{theory.exponent:.3f}}}$ (Kibble-Zurek), dotted: $R^{{1/2}}$ (coarsening)"
    figure.suptitle(f"{_caption(found)}\n{key}; vertical: the reverse SDE", fontsize="medium", wrap=True)
    return figure


def collapse(run: Run) -> Figure | None:
    """Draw correlation lengths on the way, as they are and in the units of freeze-out.

    Lengths over R^(nu/(1 + nu z)) against the distance to the quench's critical level times R^(1/(1 + nu z)) are one
    curve where Kibble and Zurek's scaling holds.

    Args:
        run: A finished run; nothing is drawn where the critical level was not given, or nothing orders.

    Source: zurek1985; biroli2010.
    """
    found = Found.of(run)
    theory = Theory.of(found)
    if not len(theory.distances) or np.isnan(theory.exponent):
        return None
    rates, distances = found["rate"], np.log(found["level"] / found.config["critical"])
    near = np.flatnonzero(abs(distances) < theory.distances[0] + 1e-9)
    curves = np.stack([found.lengths_of(found.curves(np.full(len(rates), i)).mean(0))[:, XI] for i in near], 1)
    critical = critical_level(found.config["critical"], rates)
    figure = Figure(figsize=(11.8, 5.6), layout="constrained")
    raw, scaled = figure.subplots(1, 2)
    shown = sorted({0, len(rates) // 2, len(rates) - 1})
    for place, color in zip(shown, LINES, strict=True):
        rate, label = rates[place], f"R = {rates[place]:g}"
        raw.plot(distances[near], curves[place], color=color, linewidth=1.8, label=label)
        own = np.log(found["level"][near] / critical[place])
        scaled.plot(own * rate ** (theory.exponent / theory.nu), curves[place] / rate**theory.exponent, color=color,
                    linewidth=1.8, label=label)  # fmt: skip
    raw.plot(theory.distances, theory.lengths, "o", color="black", markersize=5, label="frozen score")
    raw.set_xlabel(r"distance $\log(\sigma/\sigma_c)$ (generation $\rightarrow$)")
    raw.set_ylabel(r"correlation length $\xi$ (sites)")
    scaled.set_xlabel(rf"$\log[\sigma/(\sigma_c\sqrt{{1+1/R}})]\;R^{{{theory.exponent / theory.nu:.3f}}}$")
    scaled.set_ylabel(rf"$\xi\,/\,R^{{{theory.exponent:.3f}}}$ (sites)")
    for ax in (raw, scaled):
        ax.axvline(0, color=GREY, linewidth=1.2, zorder=0)
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:g}")
    raw.set_xlim(distances[near][0], distances[near][-1])
    scaled.set_xlim(1.5, -1.5)
    scaled.set_ylim(0.5, 4)
    raw.legend(loc="upper left")
    figure.suptitle(_caption(found), parse_math=False, fontsize="medium", wrap=True)
    return figure


def fields(run: Run) -> Figure | None:
    """Draw the signs of the first trajectory's last states, of the fastest and the slowest quench.

    Args:
        run: A finished run; chains are no images, and of three dimensions the first plane is drawn.
    """
    found = Found.of(run)
    states = found["states"][0]
    if states.ndim < 3:
        return None
    figure = Figure(figsize=(9.4, 5.2), layout="constrained")
    for ax, state, rate in zip(figure.subplots(1, 2), states, found["rate"][[0, -1]], strict=True):
        draw_signs(ax, state)
        ax.set_title(f"R = {rate:g} (reverse SDE)" if rate == PAPER_RATE else f"R = {rate:g}")
    figure.suptitle(_caption(found), parse_math=False, fontsize="medium", wrap=True)
    return figure


def _points(ax: Axes, found: Found, lengths: list[Estimate], label: str, color: str) -> None:
    """Draw lengths with their standard errors; hollow where the lattice does not hold them."""
    rates, values = found["rate"], np.array([each.value for each in lengths])
    errors, beyond = np.array([each.stderr for each in lengths]), values > SHARE * found.config["size"]
    ax.errorbar(rates, values, errors, fmt="none", ecolor=color, capsize=3)
    ax.plot(rates[~beyond], values[~beyond], "o", color=color, label=label)
    ax.plot(rates[beyond], values[beyond], "o", color=color, markerfacecolor="white")


def _slopes(ax: Axes, rates: Array, lengths: list[Estimate], theory: Theory) -> None:
    """Draw the slopes of theory through the last length, a little above it."""
    last = ABOVE * lengths[-1].value
    for exponent, style in ((theory.exponent, "--"), (COARSENING, ":")):
        if np.isfinite(exponent * last):
            ax.plot(rates, last * (rates / rates[-1]) ** exponent, color="black", linestyle=style, linewidth=1.4)


def _rate_axis(ax: Axes) -> None:
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel(r"relaxation times $\sigma^2$ per unit of $\log\sigma$, $R$")


def _caption(found: Found) -> str:
    config = found.config
    sites = " × ".join([str(config["size"])] * config["dimensions"])
    return (
        f"{sites} sites, receptive field {config['receptive_field']}, dictionary {config['dictionary']}, "
        f"{config['trajectories']} trajectories, seed {config['seed']}"
    )


FIGURES = {"kibble_zurek": kibble_zurek, "collapse": collapse, "fields": fields}
