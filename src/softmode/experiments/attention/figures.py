"""What attention, norms and convolutions carry, how far networks reach without them, and the modes themselves."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from softmode.estimate import Estimate
from softmode.experiments.attention.analyse import Found, mean_of, shown, source
from softmode.experiments.attention.networks import BOTH, FROZEN, NORMS, NULL, WHOLE
from softmode.plots.end_labels import end_labels
from softmode.plots.fields import COLOURS, visible
from softmode.plots.noise_axis import interval, noise_axis
from softmode.plots.palette import BLUE, GREEN, GREY, PURPLE, VERMILLION
from softmode.runs.run import Run

LINES = {WHOLE: "black", FROZEN: VERMILLION, NORMS: BLUE, BOTH: PURPLE, NULL: GREY}
CARRIED = {
    "attention": (VERMILLION, "attention"),
    "norms": (BLUE, "norms' statistics"),
    "both": (PURPLE, "both at once"),
}
# levels in a row of panels, and least power that a log axis shows, in units of the whole
PANELS, FLOOR = 3, 1e-7
# levels and states in the picture of modes
ROWS, COLUMNS = 4, 5
# factor between the marks of one level
APART = 1.05
TEXT = 12


def sources(run: Run) -> Figure:
    """Draw what carries the long-range rest against the noise level, and how large that is without a part.

    Args:
        run: A finished run.

    Source: paper D.2.
    """
    found = Found(run)
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [name for name in CARRIED if np.isfinite(found.array("source")[:, :, list(CARRIED).index(name)]).any()]
    for place, name in enumerate(names):
        estimates = [source(found, name, j) for j in range(len(found.levels))]
        _dots(left, found, place - (len(names) - 1) / 2, estimates, *CARRIED[name])
    left.axhline(0, color=GREY, linewidth=1)
    left.set_ylabel("share of the long-range rest")
    left.legend(loc="best")
    networks = [name for name in LINES if name in found.networks and name != NULL]
    for place, name in enumerate(networks):
        estimates = [mean_of(each) for each in found.share(3, name).T]
        _dots(right, found, place - (len(networks) - 1) / 2, estimates, LINES[name], name)
    right.set_ylim(bottom=0)
    right.set_ylabel(r"long-range rest / $|J|^2$ of the whole")
    right.legend(loc="best")
    for ax in (left, right):
        _few_levels(ax, found)
    figure.suptitle(_caption(run), parse_math=False, fontsize="medium", wrap=True)
    return figure


def distance(run: Run) -> Figure:
    """Draw the power of the Jacobian by distance, of the whole network and without a part of it.

    Args:
        run: A finished run.
    """
    found = Found(run)
    places = [shown(found.levels)[i] for i in _few(len(shown(found.levels)))]
    figure = Figure(figsize=(3.6 * len(places) + 1.6, 4.4), layout="constrained")
    panels = figure.subplots(1, len(places), sharey=True, squeeze=False)[0]
    ends = []
    for ax, place in zip(panels, places, strict=True):
        whole = found.array("power", WHOLE)[:, place].sum(-1)
        for name in (name for name in LINES if name in found.networks):
            power = (found.array("distance_power", name)[:, place] / whole[:, None]).mean(0)
            if not np.isfinite(power).all():
                continue
            drawn = np.where(power > FLOOR, power, np.nan)
            ax.plot(drawn, color=LINES[name], linewidth=1.8, linestyle="--" if name == NULL else "-")
            if ax is panels[-1]:
                last = drawn[np.isfinite(drawn)]
                ends.append((float(last[-1]) if len(last) else FLOOR, name, LINES[name]))
        ax.axvline(run.config["radius"], color=GREEN, linestyle=":", linewidth=1.4)
        ax.set_yscale("log")
        ax.set_xlabel("distance (sites)")
        ax.set_title(rf"$\sigma$ = {found.levels[place]:.3g}")
    panels[0].set_ylabel(r"power at this distance / $|J|^2$")
    end_labels(panels[-1], ends)
    text = f"{_caption(run)}\ndotted: the radius"
    figure.suptitle(text, parse_math=False, fontsize="medium", wrap=True)
    return figure


def modes(run: Run) -> Figure | None:
    """Draw the strongest mode of the long-range rest of the first states, with its strength and the null's edge.

    Args:
        run: A finished run; a chain's modes are no images, and a run may have none.

    Source: paper D.3.
    """
    found = Found(run)
    fields, gamma = found.array("mode")[:COLUMNS, :, 0], found.array("gamma", WHOLE)[:COLUMNS, :, 0]
    places = [place for place in shown(found.levels) if np.isfinite(gamma[:, place]).any()][:ROWS]
    if fields.ndim < 5 or not places:
        return None
    figure = Figure(figsize=(2.1 * len(fields) + 1.6, 2.35 * len(places) + 1.1), layout="constrained")
    panels = figure.subplots(len(places), len(fields), squeeze=False)
    for row, place in zip(panels, places, strict=True):
        for ax, field, value in zip(row, fields[:, place], gamma[:, place], strict=True):
            ax.set_xticks([])
            ax.set_yticks([])
            limit = float(np.abs(field).max()) if math.isfinite(value) else 1.0
            image = np.nan_to_num(visible(field))
            ax.imshow(image, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
            ax.set_xlabel(rf"$\gamma$ = {value:.2f}" if math.isfinite(value) else "none", fontsize=TEXT)
        null = found.array("null_edge")[0, place]
        told = f"null's edge {null:.2f}" if math.isfinite(null) else "no null"
        row[0].set_ylabel(rf"$\sigma$ = {found.levels[place]:.3g}" + f"\n{told}", fontsize=TEXT)
    for state, ax in enumerate(panels[0]):
        ax.set_title(f"state {state + 1}", fontsize=TEXT)
    text = f"strongest modes of the long-range rest\n{run.identity['model']['name']}, seed {run.config['seed']}"
    figure.suptitle(text, parse_math=False, fontsize="medium", wrap=True)
    return figure


def _dots(ax: Axes, found: Found, shift: float, estimates: list[Estimate], color: str, label: str) -> None:
    """Draw numbers with their intervals, those of one level side by side."""
    at, values = found.levels * APART ** (-2 * shift), np.array([each.value for each in estimates])
    ends = np.array([[each.value - each.low, each.high - each.value] for each in estimates]).T
    ax.errorbar(
        at, values, np.nan_to_num(ends), fmt="o-", color=color, markersize=6, linewidth=1, capsize=3, label=label
    )


def _few_levels(ax: Axes, found: Found) -> None:
    """Name the levels themselves where they are few."""
    low, high = sorted(interval(found.levels))
    noise_axis(ax, 1.2 * high, low / 1.2)
    if len(found.levels) <= 8:
        ax.xaxis.set_major_locator(FixedLocator(found.levels.tolist()))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())


def _few(count: int) -> list[int]:
    return sorted({round(float(i)) for i in np.linspace(0, count - 1, min(count, PANELS))})


def _caption(run: Run) -> str:
    count = run.dataset.sizes["trajectory"]
    return f"{run.identity['model']['name']} at {count} states of noised data, seed {run.config['seed']}"


FIGURES = {"sources": sources, "distance": distance, "modes": modes}
