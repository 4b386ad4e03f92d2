"""The figures of a stored run, drawn from its arrays and summary alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from softmode.experiments.window import FILE
from softmode.figures.alignment import alignment
from softmode.figures.clone_curve import clone_curve
from softmode.figures.critical_dynamics import critical_dynamics
from softmode.figures.dispersion import dispersion
from softmode.figures.gains import gains
from softmode.figures.patch_states import snapshots
from softmode.figures.probe_states import samples, states
from softmode.figures.pulse_twins import paths, twins
from softmode.figures.response_kernel import response_kernel
from softmode.figures.susceptibility import susceptibility
from softmode.figures.window import window
from softmode.store import Run

DPI = 200
LAYOUTS = 4
# over matplotlib's own defaults, so that a user's settings do not change the figures
STYLE: dict[str, Any] = {
    "figure.dpi": DPI,
    "font.size": 13,
    "legend.fontsize": 11,
    "legend.frameon": False,
}


def draw(run: Run) -> list[Path]:
    """Draw every figure of a finished run to DIR/figures as PNG and PDF.

    A figure depends on the run's arrays and summary only: drawn again, it is the same file, byte for byte.

    Args:
        run: A finished run.

    Returns:
        The files, PNG and PDF of each figure.

    Raises:
        ValueError: If the run has no summary yet.
    """
    with matplotlib.style.context(["default", STYLE]):
        # all are made before any is written, so that an unfinished run gets none
        figures = {name: function(run) for name, function in _functions(run).items()}
        return [path for name, figure in figures.items() for path in _save(figure, run.figure_path(name))]


def _functions(run: Run) -> Mapping[str, Callable[[Run], Figure]]:
    """Return the functions that draw an experiment's figures, by name."""
    match run.identity["experiment"]:
        case "probe":
            sampled = {"samples": samples} if run.config["states"] == "reverse" else {}
            every = {"critical_dynamics": critical_dynamics, "gains": gains, "response_kernel": response_kernel}
            found = {"window": window} if (run.directory / FILE).is_file() else {}
            return every | {"states": states} | sampled | found
        case "clones":
            return {"clones": clone_curve}
        case "pulse":
            return {"twins": twins, "alignment": alignment, "paths": paths}
        case "susceptibility":
            return {"susceptibility": susceptibility}
        case _:
            return {"snapshots": snapshots, "critical_dynamics": critical_dynamics, "dispersion": dispersion}


def _save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and PDF; each file appears under its name only when it is complete."""
    # the canvases draw a figure once, and one for layout and PNG measures its texts once; savefig would take four times
    png = FigureCanvasAgg(figure)
    _settle(figure)
    writers: dict[str, Callable[[Path], object]] = {
        "png": png.print_png,
        # matplotlib leaves this method of its own without types
        "pdf": lambda path: FigureCanvasPdf(figure).print_pdf(path, metadata={"CreationDate": None}),  # type: ignore[no-untyped-call]
    }
    paths = []
    for kind, write in writers.items():
        path = stem.parent / f"{stem.name}.{kind}"
        staged = stem.parent / f".{stem.name}.{kind}.partial"
        try:
            write(staged)
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
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
