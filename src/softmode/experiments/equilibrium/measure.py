"""The plan of an equilibrium: of a patch model on lattices."""

from softmode.experiments.equilibrium.lattice_measure import prepare

__all__ = ["prepare"]
