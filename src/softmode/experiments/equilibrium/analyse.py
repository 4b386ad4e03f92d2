"""What an equilibrium run found."""

from softmode.experiments.equilibrium.lattice_analyse import analyse

__all__ = ["analyse"]
