"""Curves along a generation as lines: trajectories and their median, signed values on a log axis, shells by colour."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.lines import Line2D

from softmode.estimate import Array, median
from softmode.plots.palette import BLUE

# trajectories beyond which each is drawn fainter
OPAQUE = 10
# share of the colour map that is dark enough for lines and texts on white
DARK = 0.75


def trajectories_and_median(ax: Axes, times: Array, curves: Array, color: str = "black", faint: str = BLUE) -> None:
    """Plot curves [trajectory, time] transparently, the more so the more there are, and their median over them."""
    for place, curve in enumerate(curves):
        name = "trajectory" if place == 0 else "_nolegend_"
        alpha = 0.35 * min(1, OPAQUE / len(curves))
        ax.plot(times, curve, color=faint, linewidth=0.8, alpha=alpha, label=name, gid="trajectory")
    ax.plot(times, median(curves), color=color, linewidth=2.2, label="median", gid="median")


def signed_line(ax: Axes, times: Array, values: Array, **style: Any) -> list[Line2D]:
    """Plot |values| [time]: positive parts solid, negative parts dashed.

    Returns:
        The solid and the dashed line.
    """
    lines = []
    for sign, linestyle in ((1, "-"), (-1, "--")):
        part = np.where(sign * values > 0, sign * values, np.nan)
        gaps = np.isnan(np.concatenate([[np.nan], part, [np.nan]]))
        # a point between two gaps would draw nothing
        alone = np.flatnonzero(~gaps[1:-1] & gaps[:-2] & gaps[2:])
        lines += ax.plot(times, part, linestyle=linestyle, marker=".", markersize=3, markevery=alone, **style)
    return lines


def magnitudes(values: Array) -> tuple[float, float]:
    """Return limits of a log axis for |values| that a dip through zero does not stretch."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if len(sizes) == 0:
        return 0.1, 1.0
    return 0.2 * float(np.quantile(sizes, 0.05)), 2.0 * float(sizes.max())


def shell_colours(shells: int) -> Colormap:
    """Return a colour for each of so many shells, none too light to be read on white."""
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, DARK, shells)))


def shell_colourbar(axes: Axes | Sequence[Axes], shells: int) -> None:
    """Add the colour bar of `shell_colours` beside one or several axes."""
    first = axes if isinstance(axes, Axes) else axes[0]
    norm = BoundaryNorm(np.arange(shells + 1) - 0.5, shells)
    ticks = np.arange(0, shells, -(-shells // 10))
    mappable = ScalarMappable(norm, shell_colours(shells))
    first.figure.colorbar(mappable, ax=axes, label="shell $n$", ticks=ticks, aspect=30)


def shown_shells(shells: int) -> list[int]:
    """Return the few shells, lowest, middle and highest, that are drawn where all would be too many."""
    return sorted({0, shells // 2, shells - 1})
