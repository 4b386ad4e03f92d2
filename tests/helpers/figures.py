"""What a figure shows, found by its labels, and the rules that every figure keeps to."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text

from softmode.estimate import Estimate
from softmode.runs import draw
from softmode.runs.results import Quantity
from softmode.runs.run import Run

# most entries of a legend and vertical lines of a panel
ENTRIES, LINES = 4, 3
# points of the smallest text, and inches of a page's width, in print
SMALLEST, PAGE = 6.0, 6.5


def labelled(ax: Axes, text: str) -> Line2D:
    """Return the one line whose label holds a text."""
    (found,) = (line for line in ax.lines if text in str(line.get_label()))
    return found


def line(ax: Axes, gid: str, linestyle: str | None = None) -> Line2D:
    """Return the one line of a group id, and of a style where several share it."""
    (found,) = (line for line in ax.lines if line.get_gid() == gid and linestyle in (None, line.get_linestyle()))
    return found


def legend_entries(figure: Figure) -> list[str]:
    """Return the text of every entry of every legend of a figure, its subfigures and panels."""
    return [text.get_text() for found in figure.findobj(Legend) for text in found.get_texts()]


def panel(figure: Figure, text: str) -> Axes:
    """Return the one panel whose label of y holds a text."""
    (found,) = (ax for ax in figure.axes if text in ax.get_ylabel())
    return found


def vertical_lines(ax: Axes) -> list[Line2D]:
    """Return the lines that cross a panel from bottom to top."""
    upright = ax.get_xaxis_transform()
    return [line for line in ax.lines if line.get_transform() == upright and len(set(line.get_xdata())) == 1]


def check_rules(figure: Figure) -> None:
    """Check what every figure keeps to.

    A legend has at most four entries, so have all those of the figure and its parts together; a panel has one axis of
    y and at most three vertical lines; no text is smaller than 6 points at half the size, or on a page 6.5 inches wide.
    """
    # tick labels are there only when they have been drawn
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    own = [legend for ax in figure.axes for legend in ax.findobj(Legend)]
    others = [found for found in figure.findobj(Legend) if found not in own]
    assert all(len(legend.get_texts()) <= ENTRIES for legend in own)
    assert sum(len(legend.get_texts()) for legend in others) <= ENTRIES
    for ax in figure.axes:
        assert len(vertical_lines(ax)) <= LINES
        same = [other for other in figure.axes if np.allclose(other.bbox.bounds, ax.bbox.bounds)]
        assert same == [ax], "two axes share a place"
        second = [child for child in ax.child_axes if isinstance(child, SecondaryAxis)]
        assert all(child._orientation == "x" for child in second)
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    scale = min(0.5, PAGE / figure.get_size_inches()[0])
    assert min(sizes) * scale >= SMALLEST


def nothing_is_clipped(figure: Figure) -> None:
    """Check that all of a figure, laid out, is on its page."""
    page = figure.bbox_inches
    draw._settle(figure)
    inside = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    # a layout ends within a hundredth of an inch
    assert page.x0 - 0.01 <= inside.x0 < inside.x1 <= page.x1 + 0.01
    assert page.y0 - 0.01 <= inside.y0 < inside.y1 <= page.y1 + 0.01


def changed(run: Run, data: xr.Dataset | None = None, **results: Any) -> Run:
    """Return a run with other arrays, and with other parts of its results."""
    copy = replace(run)
    vars(copy)["results"] = replace(run.results, **results)
    if data is not None:
        vars(copy)["store"] = SimpleNamespace(arrays=data, identity=run.identity)
    return copy


def replaced(run: Run, kinds: str, **estimates: Estimate) -> Run:
    """Return a run whose quantities of some kinds are others, by name."""
    kept = [q for q in run.results.quantities if kinds not in q.kind]
    new = [Quantity(name[:-2], int(name[-1]), estimate, "") for name, estimate in estimates.items()]
    return changed(run, quantities=(*kept, *new))
