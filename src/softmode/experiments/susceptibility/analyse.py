"""What a susceptibility experiment found: by reverse sweeps, or by pulses."""

from softmode.experiments.susceptibility import adjoint_analyse, pulses_analyse
from softmode.experiments.susceptibility.maximum import contains as contains
from softmode.runs.results import Results
from softmode.runs.run import Run


def analyse(run: Run) -> Results:
    """Return what a run found."""
    return (pulses_analyse if run.config["method"] == "pulses" else adjoint_analyse).analyse(run)
