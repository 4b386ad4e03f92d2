"""Figures without the time for print, where a test is about something else."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# dots per inch
COARSE = 20


def quick(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as one PNG without its layout, which takes most of the time: what stands in for `draw.save`."""
    figure.set_layout_engine("none")
    path = stem.with_suffix(".png")
    FigureCanvasAgg(figure).print_png(path)
    return [path]
