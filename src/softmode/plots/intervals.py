"""A panel of estimates in rows: each a point with its 95 % interval, and its value written beside it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from softmode.estimate import Estimate
from softmode.plots.marks import DOUBT, in_doubt, value_text

# values of one row that are written beside it
WRITTEN = 3


class Row(NamedTuple):
    """Estimates of one kind.

    Attributes:
        text: What they are.
        estimates: In falling order.
        color: Of the row.
        window: The interval that the kind itself gives; NaN without one.
        gid: Identifier of the points.
    """

    text: str
    estimates: Sequence[Estimate]
    color: str = "black"
    window: tuple[float, float] = (math.nan, math.nan)
    gid: str = ""


def interval_rows(ax: Axes, rows: Sequence[Row]) -> None:
    """Draw rows from the top down: points, hollow where in doubt, thick 95 % intervals, thin windows, values beside."""
    for place, row in enumerate(rows):
        if math.isfinite(sum(row.window)):
            ax.plot(row.window, [place, place], color=row.color, linewidth=1.4, marker="|", markersize=10, gid="window")
        for estimate in row.estimates:
            if estimate.low < estimate.high:
                ends = [estimate.low, estimate.high]
                ax.plot(ends, [place, place], color=row.color, linewidth=5, alpha=0.4, solid_capstyle="butt")
            face = "white" if in_doubt(estimate) else row.color
            ax.plot(estimate.value, place, "o", color=row.color, markerfacecolor=face, markersize=8, gid=row.gid)
        values = [value_text(estimate) for estimate in row.estimates]
        more = f", … ({len(values)} in all)" if len(values) > WRITTEN else ""
        ax.annotate(
            ", ".join(values[:WRITTEN]) + more, (1.015, place), xycoords=("axes fraction", "data"), color=row.color,
            va="center", annotation_clip=False,
        )  # fmt: skip
    _legend(ax, rows)
    ax.set_yticks(range(len(rows)), [row.text for row in rows])
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)


def _legend(ax: Axes, rows: Sequence[Row]) -> None:
    """Explain what the rows have, below all panels of the figure or of its part."""
    estimates = [estimate for row in rows for estimate in row.estimates]
    if any(estimate.low < estimate.high for estimate in estimates):
        ax.plot([], [], color="black", linewidth=5, alpha=0.4, label="95 % interval")
    if any(math.isfinite(sum(row.window)) for row in rows):
        ax.plot([], [], color="black", linewidth=1.4, marker="|", markersize=10, label="window of the criterion itself")
    if any(in_doubt(estimate) for estimate in estimates):
        ax.plot([], [], "o", color="black", markerfacecolor="white", markersize=8, label=DOUBT)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.figure.legend(handles, labels, loc="outside lower center", ncols=3)
