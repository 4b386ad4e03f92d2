"""What a frozen score does: of a network, or of a patch model on lattices."""

from softmode.experiments.equilibrium import lattice_analyse, network_analyse
from softmode.runs.results import Results
from softmode.runs.run import Run


def analyse(run: Run) -> Results:
    """Return what a run found."""
    return (network_analyse if run.config["model"] else lattice_analyse).analyse(run)
