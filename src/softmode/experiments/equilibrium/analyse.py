"""What a frozen network does; the analysis is in network_analyse.py."""

from softmode.experiments.equilibrium.network_analyse import analyse

__all__ = ["analyse"]
