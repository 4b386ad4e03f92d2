"""A run: what is stored of an experiment, and what was found in it."""

from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from softmode.bounds import shown, shown_path
from softmode.message import refusal
from softmode.runs.draw import save, styled
from softmode.runs.experiment import Experiment
from softmode.runs.files import damaged, is_sealed, read_json, written
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
        # arrays of a temporary directory outlive the run that holds it
        return self.store.arrays if self.keep is None else self.store.arrays.load()

    @property
    def results_file(self) -> Path:
        """Where the results are: summary.json, or NAME.json of an experiment that only analysed this run."""
        own = self.identity["experiment"] == self.experiment.name
        return self.directory / (SUMMARY if own else f"{self.experiment.name}.json")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The stored results as plain data, with what made them: versions, machine, seconds over all sittings.

        Raises:
            ValueError: If the run is not finished, or the file is damaged.
        """
        path, identity = self.results_file, self.identity
        again = f"run the same command again, softmode {self.experiment.name} with its options"
        if unfinished := len(self.store.blocks(done=False)):
            raise refusal(
                f"{path.name}: {shown_path(self.directory)} is not finished (blocks left: {unfinished}); {again}"
            )
        found = read_json(path, RESULTS, again)
        if not is_sealed(found):
            raise damaged(path, "not what was written", again)
        if any(found.get(part) != value for part, value in identity.items()):
            raise damaged(path, "results of another run", again)
        return found

    @cached_property
    def results(self) -> Results:
        """What was found.

        Raises:
            ValueError: If the run is not finished, or its results are damaged.
        """
        return Results.from_plain(self.summary)

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
            raise refusal(f"figure: got {shown(name)}; expected one of {', '.join(self.figures)}")
        with styled():
            found = self.experiment.figures[name](self)
        if found is None:
            raise refusal(f"figure: this run has nothing to draw for {name!r}")
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
            with written(folder):
                folder.mkdir(exist_ok=True)
            found = {name: figure for name, figure in drawn.items() if figure is not None}
            return [path for name, figure in found.items() for path in save(figure, folder / name)]

    def __repr__(self) -> str:
        """Return what it is and the answer, or what is wrong with it."""
        try:
            return f"{self._title()} in {self.directory}\n{self.results.answer}"
        except (ValueError, OSError) as error:
            return f"{self.experiment.name} in {self.directory}\n{error}"

    def _repr_html_(self) -> str:
        try:
            return page_body(self._title(), self.results, {})
        except (ValueError, OSError) as error:
            return f"<p>{escape(self.experiment.name)} in {escape(str(self.directory))}: {escape(str(error))}</p>"

    def _title(self) -> str:
        """Return the experiment and what it was made with."""
        config = self.config
        if "dictionary" in config:
            return f"{self.experiment.name} of {config['dictionary']} patches on {config['receptive_field']}"
        return f"{self.experiment.name} of {config['model']}" if "model" in config else self.experiment.name
