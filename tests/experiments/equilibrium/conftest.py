"""A run that several files look at."""

from typing import Any

import pytest

from softmode.experiments.call import call, experiment
from softmode.experiments.equilibrium import lattice_stages
from softmode.runs.run import Run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of small lattices, in the default settings but for sides and error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lattice_stages, "COARSE", 1000)
        patch.setattr(lattice_stages, "LEAST", 60)
        patch.setitem(lattice_stages.ROUNDS, "half", 4)
        patch.setitem(lattice_stages.ROUNDS, "main", 8)
        settings: dict[str, Any] = {"receptive_field": "box:3", "sizes": (8, 12, 16), "error": 0.03}
        return call(experiment("equilibrium"), tmp_path_factory.mktemp("equilibrium") / "run", **settings)
