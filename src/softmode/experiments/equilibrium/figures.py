"""Figures of an equilibrium run."""

from softmode.experiments.equilibrium.lattice_figures import FIGURES

__all__ = ["FIGURES"]
