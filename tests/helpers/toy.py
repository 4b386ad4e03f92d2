"""An experiment that computes at once, for tests of what carries every experiment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from softmode.estimate import Estimate
from softmode.runs.engine import execute
from softmode.runs.experiment import Experiment, Plan
from softmode.runs.layout import constant
from softmode.runs.results import Quantity, Results, Table
from softmode.runs.run import Run
from softmode.runs.store import ArraySpec, Block


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """What a user chooses of an experiment that computes at once."""

    trajectories: int = 5
    block: int = 2
    size: int = 4
    device: str = "cpu"


class ToyPlan(Plan):
    """Trajectories of random numbers of their own, known times, and a snapshot of each."""

    shrink = "size"

    def __init__(
        self, config: ToyConfig = ToyConfig(), inputs: Mapping[str, str] | None = None, parts: int = 1
    ) -> None:
        self.config, self.inputs, self.parts = config, inputs or {}, parts

    @property
    def identity(self):
        return {"inputs": self.inputs}

    @property
    def constants(self):
        count = self.trajectories
        return {
            "time": constant(np.linspace(3, 1, self.config.size), ("time",), "time"),
            "trajectory": constant(np.arange(count), ("trajectory",), "trajectory index"),
        }

    @property
    def variables(self):
        count, size, attrs = self.trajectories, self.config.size, {"units": "site", "long_name": "length"}
        if self.parts > 1:
            return {"xi": ArraySpec(("trajectory", "condition", "time"), (count, self.parts, size), "float64", attrs)}
        return {
            "xi": ArraySpec(("trajectory", "time"), (count, size), "float64", attrs),
            "snapshots": ArraySpec(("trajectory", "snapshot", "x"), (count, 2, size), "float32", attrs),
        }

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None):
        streams = [np.random.default_rng([i, block.part]) for i in block.trajectories]
        advance()
        size = self.config.size
        arrays = {"xi": np.stack([r.random(size) for r in streams])}
        if self.parts == 1:
            arrays["snapshots"] = np.stack([r.random((2, size)) for r in streams])
        return arrays


@dataclass(frozen=True)
class Toy(Experiment):
    """An experiment without a package, which is measured by any `Plan`."""

    name: str = "toy"
    package: str = ""

    @property
    def analyse(self):
        return _mean_length

    @property
    def figures(self):
        return {"lengths": _lengths}


def _mean_length(run: Run) -> Results:
    xi = run.dataset["xi"].to_numpy()
    found = Estimate(float(xi.mean()), 0.1, len(xi), 0.0, 1.0)
    return Results(
        answer=f"The mean length is {found}.",
        quantities=(Quantity("length", 0, found, "mean length", "$L$", "Eq. 1"),),
        tables={
            "lengths": Table("Lengths", ("trajectory", "xi"), tuple((i, float(x.mean())) for i, x in enumerate(xi)))
        },
        values={"length": found},
    )


def _lengths(run: Run) -> Figure:
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot(run.dataset["time"], run.dataset["xi"].mean("trajectory"))
    return figure


def made(directory: Path, plan: Plan | None = None) -> Run:
    """Return a finished run of the toy."""
    return execute(Toy(), plan or ToyPlan(), directory)
