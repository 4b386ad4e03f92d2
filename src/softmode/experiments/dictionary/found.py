"""What a run holds of its realisations, as arrays, with the verdict on each."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softmode.estimate import Array
from softmode.experiments.dictionary.states import STATES
from softmode.experiments.dictionary.verdict import FRUSTRATED, LEAST_WAIT, UNDECIDED, VERDICTS, verdicts
from softmode.lattice import ReceptiveField
from softmode.runs.run import Run

SAMPLES, FROZEN = (STATES.index(name) for name in ("samples", "frozen"))


@dataclass(frozen=True, eq=False)
class Found:
    """The arrays of a run.

    Args:
        config: Its config.
        field: Its receptive field.
        arrays: Arrays [realisation, mass, ...] by name, and coordinates.
        verdict: Verdict on the frozen states of the largest lattice, [realisation, mass], an index among VERDICTS.
    """

    config: dict[str, Any]
    field: ReceptiveField
    arrays: dict[str, Array]
    verdict: Array

    @classmethod
    def of(cls, run: Run) -> "Found":
        """Return those of a run."""
        arrays = {str(name): run.dataset[name].to_numpy() for name in run.dataset.variables}
        field = ReceptiveField.parse(run.config["receptive_field"], run.config["dimensions"])
        of = (slice(None), slice(None), -1, FROZEN)
        height, area = ((arrays[name][of], arrays[f"{name}_error"][of]) for name in ("bragg", "susceptibility"))
        verdict = verdicts(height, area, arrays["peak"][of], field)
        if run.config["waits"][-1] < LEAST_WAIT:
            verdict = np.where(verdict == FRUSTRATED, UNDECIDED, verdict)
        return cls(run.config, field, arrays, verdict)

    def __getitem__(self, name: str) -> Array:
        """Return an array."""
        return self.arrays[name]

    @property
    def masses(self) -> list[float]:
        """Prior masses of the uniform patterns."""
        return [float(mass) for mass in self["mass"]]

    @property
    def of_sites(self) -> bool:
        """Whether every site has a dictionary of its own."""
        return bool(self.config["disorder_of"] == "site")

    def count(self, verdict: str, mass: int) -> int:
        """Return how many realisations have a verdict."""
        return int((self.verdict[:, mass] == VERDICTS.index(verdict)).sum())
