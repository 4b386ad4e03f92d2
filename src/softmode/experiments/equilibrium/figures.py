"""Figures of a frozen network, which are in network_figures.py."""

from softmode.experiments.equilibrium.network_figures import FIGURES

__all__ = ["FIGURES"]
