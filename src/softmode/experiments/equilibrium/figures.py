"""Figures of an equilibrium run: those of a network, or those of a patch model on lattices."""

from collections.abc import Callable

from matplotlib.figure import Figure

from softmode.experiments.equilibrium import lattice_figures, network_figures
from softmode.runs.run import Run


def _of(name: str) -> Callable[[Run], Figure | None]:
    def draw(run: Run) -> Figure | None:
        kind = network_figures if run.config["model"] else lattice_figures
        own: Callable[[Run], Figure | None] | None = kind.FIGURES.get(name)
        return None if own is None else own(run)

    return draw


FIGURES = {name: _of(name) for name in {**lattice_figures.FIGURES, **network_figures.FIGURES}}
