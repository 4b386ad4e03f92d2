"""The frozen score of a network; the plan is in network_measure.py."""

from softmode.experiments.equilibrium.network_measure import prepare

__all__ = ["prepare"]
