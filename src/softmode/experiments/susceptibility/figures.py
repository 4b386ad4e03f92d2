"""Figures of a susceptibility run: those of reverse sweeps, or those of pulses."""

from collections.abc import Callable

from matplotlib.figure import Figure

from softmode.experiments.susceptibility import adjoint_figures, pulses_figures
from softmode.runs.run import Run


def _of(name: str) -> Callable[[Run], Figure | None]:
    def draw(run: Run) -> Figure | None:
        kind = pulses_figures if run.config["method"] == "pulses" else adjoint_figures
        own: Callable[[Run], Figure | None] | None = kind.FIGURES.get(name)
        return None if own is None else own(run)

    return draw


FIGURES = {name: _of(name) for name in {**pulses_figures.FIGURES, **adjoint_figures.FIGURES}}
