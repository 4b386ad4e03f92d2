"""How figures look and how they are written: the same file, byte for byte, whenever they are drawn again."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from softmode.files import DIRECTORY, kind_of
from softmode.message import quote, refusal
from softmode.runs.files import staged

DPI = 200
LAYOUTS = 4
# over matplotlib's own defaults, so that a user's settings do not change the figures
STYLE: dict[str, Any] = {
    "figure.dpi": DPI,
    "font.size": 14,
    "axes.titlesize": 14,
    "legend.fontsize": 12,
    "legend.edgecolor": "none",
}


def styled() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn."""
    context: AbstractContextManager[None] = matplotlib.style.context(["default", STYLE])
    return context


def save(figure: Figure, stem: Path, kinds: Sequence[str] = ("png", "pdf")) -> list[Path]:
    """Write a figure as PNG and PDF; each file appears under its name only when it is complete.

    Args:
        figure: The figure.
        stem: Path of the files without their ending.
        kinds: Which of them to write.
    """
    # the canvases draw a figure once, and one for layout and PNG measures its texts once; savefig would take four times
    png = FigureCanvasAgg(figure)
    _settle(figure)
    writers: dict[str, Callable[[Path], object]] = {
        "png": png.print_png,
        # matplotlib leaves this method of its own without types
        "pdf": lambda path: FigureCanvasPdf(figure).print_pdf(path, metadata={"CreationDate": None}),  # type: ignore[no-untyped-call] # without types in its package
    }
    paths = []
    for kind in kinds:
        path = stem.parent / f"{stem.name}.{kind}"
        with staged(path) as stage:
            writers[kind](stage)
        paths.append(path)
    return paths


def _settle(figure: Figure) -> None:
    """Lay a figure out until its axes stay in place, and keep that: axes and tick labels depend on each other."""
    engine = figure.get_layout_engine()
    places = np.zeros((len(figure.axes), 4))
    for _ in range(LAYOUTS):
        if engine is not None:
            engine.execute(figure)
        before, places = places, np.array([ax.get_position().bounds for ax in figure.axes])
        if np.allclose(places, before, atol=2e-2, rtol=0):
            break
    figure.set_layout_engine("none")


def check_picture(path: str) -> None:
    """Raise a ValueError unless a picture can be written there."""
    if path and not path.endswith(".png"):
        raise refusal(f"figure: got {quote(path)}; expected a name that ends in .png")
    if path and kind_of(Path(path).parent) != DIRECTORY:
        raise refusal(f"figure: {quote(str(Path(path).parent))} is no directory; make it first")
