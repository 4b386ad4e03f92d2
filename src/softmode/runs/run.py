"""A run: what is stored of an experiment, and what was found in it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from softmode.runs.draw import save, styled
from softmode.runs.experiment import Experiment
from softmode.runs.files import read_json
from softmode.runs.page import page_body
from softmode.runs.results import Results
from softmode.runs.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = "summary.json"
RESULTS = ("answer", "quantities", "tables", "notes", "values")


@dataclass(frozen=True, eq=False)
class Run:
    """A stored run of an experiment.

    Args:
        directory: Where it is.
        experiment: As which experiment it is looked at.
        keep: What must live as long as the run, such as the temporary directory that holds it.
    """

    directory: Path
    experiment: Experiment
    keep: Any = None

    @cached_property
    def store(self) -> Store:
        """The arrays on disk."""
        return Store(self.directory)

    @property
    def identity(self) -> dict[str, Any]:
        """What the arrays are a function of: experiment, config, model, inputs, versions."""
        return self.store.identity

    @property
    def config(self) -> dict[str, Any]:
        """The config of the experiment that measured the arrays."""
        return dict(self.identity["config"])

    @property
    def dataset(self) -> xr.Dataset:
        """Every array of the finished trajectories, with named dimensions, coordinates and units."""
        return self.store.arrays

    @property
    def results_file(self) -> Path:
        """Where the results are: summary.json, or NAME.json of an experiment that only analysed this run."""
        own = self.identity["experiment"] == self.experiment.name
        return self.directory / (SUMMARY if own else f"{self.experiment.name}.json")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The stored results as plain data, with what made them: versions, machine, sittings.

        Raises:
            ValueError: If the run was not finished, or the file is damaged.
        """
        remedy = f"finish the run with the same command: softmode {self.experiment.name} ... --out {self.directory}"
        return read_json(self.results_file, RESULTS, remedy)

    @cached_property
    def results(self) -> Results:
        """What was found.

        Raises:
            ValueError: If the run was not finished, or its results are damaged.
        """
        try:
            return Results.from_plain(self.summary)
        except ValueError as error:
            raise ValueError(
                f"{self.results_file.name}: {str(self.results_file)!r}: {error}; remove it and run the same command"
            ) from None

    def of(self, experiment: Experiment) -> "Run":
        """Return the run as another experiment looks at it."""
        return replace(self, experiment=experiment)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures, the main one first."""
        return tuple(self.experiment.figures)

    def figure(self, name: str) -> "Figure":
        """Draw one figure from what is stored.

        Raises:
            ValueError: If there is no such figure.
        """
        if name not in self.figures:
            raise ValueError(f"figure: got {name!r}; expected one of {', '.join(self.figures)}")
        with styled():
            found = self.experiment.figures[name](self)
        if found is None:
            raise ValueError(f"figure: this run has nothing to draw for {name!r}")
        return found

    def plot(self) -> "Figure":
        """Draw the main figure."""
        return self.figure(self.figures[0])

    def draw(self) -> list[Path]:
        """Draw every figure that the run has to DIR/figures, as PNG and PDF; drawn again, they are the same files."""
        folder = self.directory / "figures"
        # ticks are made when a figure is written
        with styled():
            drawn = {name: function(self) for name, function in self.experiment.figures.items()}
            folder.mkdir(exist_ok=True)
            found = {name: figure for name, figure in drawn.items() if figure is not None}
            return [path for name, figure in found.items() for path in save(figure, folder / name)]

    def __repr__(self) -> str:
        """Return what it is and the answer."""
        try:
            answer = self.results.answer
        except ValueError as error:
            answer = str(error)
        return f"{self.experiment.name} of {_about(self.identity)} in {self.directory}\n{answer}"

    def _repr_html_(self) -> str:
        return page_body(self.experiment.name, self.results, {})


def _about(identity: Mapping[str, Any]) -> str:
    config = identity["config"]
    return str(config.get("model") or f"{config.get('dictionary')} patches on {config.get('receptive_field')}")
