"""Order against the side of the lattice, overlaps of replicas, states themselves, and ageing under the frozen score."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from softmode.estimate import Array, of_mean
from softmode.experiments.dictionary.found import FROZEN, SAMPLES, Found
from softmode.experiments.dictionary.states import PAIRS
from softmode.experiments.dictionary.tables import vector
from softmode.experiments.dictionary.verdict import ORDERED, VERDICTS
from softmode.plots.fields import draw_signs
from softmode.plots.palette import BLUE, GREEN, GREY, PURPLE, SHADE, VERMILLION
from softmode.runs.run import Run

COLOUR_OF = dict(zip(VERDICTS, (BLUE, VERMILLION, "black", GREY), strict=True))
# lines of masses or waiting times in a panel, and realisations whose states are shown
LINES, SHOWN = 3, 4
LINE_COLOURS = (PURPLE, BLUE, GREEN)
TITLES = ("generated samples", "under the frozen score")
TEXT = 13
# pairs that chance alone makes
CONTROLS = (
    ("random signs", "independent signs", GREY, "--"),
    ("same spectrum", "random phases, the samples' spectrum", VERMILLION, "-"),
)


def order(run: Run) -> Figure:
    """Draw the share of the power in the highest peak against the side of the lattice, of samples and of frozen states.

    Args:
        run: A finished run.

    Source: with order the share stays, without it falls like 1/N.
    """
    found = Found.of(run)
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    sizes = found["size"].astype(float)
    for ax, which, title in zip(panels, (SAMPLES, FROZEN), TITLES, strict=True):
        heights = np.maximum(found["bragg"][..., which], 1e-9)
        (_one_mass if len(found.masses) == 1 else _masses)(ax, found, heights)
        ax.plot(sizes, sizes ** -found.config["dimensions"], color="black", linestyle="--", linewidth=1.4)
        ax.text(0.04, 0.06, "dashed: no order, $1/N$", transform=ax.transAxes, fontsize=TEXT)
        ax.axhline(ORDERED, color=GREY, linestyle=":", linewidth=1.4)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
        ax.set_xlabel("side $L$ (sites)")
        ax.set_title(title)
    panels[0].set_ylabel(r"power in one wave, $S(k_{\mathrm{peak}})/N$")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(
        f"{_caption(found)}\ndotted: what is above it under the frozen score, by two standard errors, is ordered",
        parse_math=False, fontsize="medium", wrap=True,
    )  # fmt: skip
    return figure


def _one_mass(ax: Axes, found: Found, heights: Array) -> None:
    """Draw every realisation in the colour of its verdict."""
    for place, name in enumerate(VERDICTS):
        chosen = heights[found.verdict[:, 0] == place, 0]
        for i, curve in enumerate(chosen):
            label = name if i == 0 else "_nolegend_"
            ax.plot(found["size"], curve, ".-", color=COLOUR_OF[name], linewidth=1, alpha=0.5, label=label)


def _masses(ax: Axes, found: Found, heights: Array) -> None:
    """Draw the mean over disorder at a few masses."""
    for place, color in zip(_few(len(found.masses)), LINE_COLOURS, strict=False):
        means = [of_mean(column) for column in heights[:, place].T]
        errors = [each.stderr for each in means]
        label = f"uniform mass {found.masses[place]:g}"
        ax.errorbar(
            found["size"], [each.value for each in means], errors, fmt="o-", color=color, capsize=3, label=label
        )


def overlaps(run: Run) -> Figure:
    """Draw the distribution of |q| of pairs of states on the largest lattice, with what chance alone gives.

    Args:
        run: A finished run.

    Source: edwards1975.
    """
    found = Found.of(run)
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    shares = found["histogram"][:, 0, -1].mean(0)
    titles = ("samples of two noises", "a sample and its copy from $t_c$ on", "frozen score, two noises")
    edges = np.linspace(0, 1, shares.shape[1] + 1)
    for ax, name, title in zip(panels, ("samples", "copies", "frozen"), titles, strict=True):
        ax.stairs(shares[PAIRS.index(name)], edges, fill=True, color=BLUE, alpha=0.45, label="measured")
        for control, label, color, style in CONTROLS:
            ax.stairs(shares[PAIRS.index(control)], edges, color=color, linestyle=style, linewidth=1.8, label=label)
        ax.set_title(title)
        ax.set_xlabel("overlap $|q|$" if found.of_sites else "largest overlap $|q|$")
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set_yscale("log")
        ax.set_ylim(5e-4, 1.5)
    panels[0].set_ylabel("share of pairs")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    over = "as they are" if found.of_sites else "over all translations and the flip"
    figure.suptitle(f"{_caption(found, 0)}, overlaps {over}, L = {found['size'][-1]}", parse_math=False,
                    fontsize="medium", wrap=True)  # fmt: skip
    return figure


def states(run: Run) -> Figure | None:
    """Draw a sample of the first realisations above one of their states under the frozen score, on the largest lattice.

    Args:
        run: A finished run; chains are no images, and of three dimensions the first plane is drawn.
    """
    found = Found.of(run)
    fields = found["states"][:SHOWN, 0]
    if fields.ndim < 4:
        return None
    figure = Figure(figsize=(2.9 * len(fields) + 0.6, 7.2), layout="constrained")
    panels = figure.subplots(len(TITLES), len(fields), squeeze=False)
    for column, realisation in enumerate(fields):
        for row, field in enumerate(realisation):
            ax = panels[row, column]
            draw_signs(ax, field)
        star, peak = (vector(each) for each in (found["k_star"][column, 0], found["peak"][column, 0, -1, FROZEN]))
        soft = "" if found.of_sites else f"$k^*$ = ({star}) $\\pi$"
        panels[0, column].set_title(soft, fontsize=TEXT)
        verdict = VERDICTS[found.verdict[column, 0]]
        panels[1, column].set_title(f"peak ({peak}) $\\pi$", fontsize=TEXT)
        panels[1, column].set_xlabel(verdict, color=COLOUR_OF[verdict])
    for row, title in enumerate(TITLES):
        panels[row, 0].set_ylabel(title)
    figure.suptitle(_caption(found, 0), parse_math=False, fontsize="medium", wrap=True)
    return figure


def ageing(run: Run) -> Figure:
    """Draw how states under the frozen score forget themselves, by their age.

    Args:
        run: A finished run.

    Source: binder1986.
    """
    found = Found.of(run)
    figure = Figure(figsize=(11, 5), layout="constrained")
    names = ["ageing"] if found.of_sites else ["ageing", "ageing_moved"]
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, name in zip(panels, names, strict=True):
        for i, color in zip(_few(len(found["wait"])), LINE_COLOURS, strict=False):
            means = [of_mean(column) for column in found[name][:, 0, i].T]
            value, error = (np.array([getattr(each, part) for each in means]) for part in ("value", "stderr"))
            ax.fill_between(found["lag"], value - error, value + error, color=color, alpha=0.25, linewidth=0)
            ax.plot(found["lag"], value, "o-", color=color, markersize=4, label=f"$t_w$ = {found['wait'][i]:g}")
        ax.axhline(0, color=SHADE, zorder=0)
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(r"time $t$ after the waiting time ($\sigma^2$)")
        ax.set_title("as it is" if name == "ageing" else "largest over translations")
    panels[0].set_ylabel("$C(t_w, t_w + t)$")
    panels[0].legend()
    figure.suptitle(f"{_caption(found, 0)}, L = {found['size'][-1]}", parse_math=False, fontsize="medium", wrap=True)
    return figure


def _few(count: int) -> list[int]:
    """Return a few of so many places, evenly spread, both ends among them."""
    return sorted({round(float(i)) for i in np.linspace(0, count - 1, min(count, LINES))})


def _caption(found: Found, mass: int | None = None) -> str:
    config = found.config
    at = "" if mass is None or not any(found.masses) else f", uniform mass {found.masses[mass]:g}"
    where = "one of every site" if found.of_sites else "one at all sites"
    return (
        f"{len(found.verdict)} dictionaries of {config['patterns']} random patterns ({config['receptive_field']}, "
        f"{where}){at},\n{config['replicas']} replicas, score frozen at {config['level']:g} of the critical noise "
        f"level, seed {config['seed']}"
    )


FIGURES = {"order": order, "overlaps": overlaps, "states": states, "ageing": ageing}
