"""What a figure shows, found by its labels."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D


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
