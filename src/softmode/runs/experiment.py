"""The shape of an experiment: a folder of four files, and a plan that can measure any block of itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softmode.estimate import Array
from softmode.runs.results import Results
from softmode.runs.store import ArraySpec, Block, blocks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from softmode.runs.run import Run

Constants = Mapping[str, tuple[ArraySpec, Array]]


class Plan(ABC):
    """A checked config, ready to measure any block; making one computes little and writes nothing.

    Attributes:
        config: The experiment's config, with no field left open.
        parts: Conditions of a block that are computed and written one by one.
        memory: Bytes that computing one trajectory takes, over what its arrays take.
        shrink: Name of the field that makes one trajectory smaller: a number, or the shape of a state.
        power: `memory` grows like this power of that number.
        counted: Name of the field that makes trajectories fewer.
    """

    config: Any
    parts: int = 1
    memory: float = 0.0
    shrink: str = "shape"
    power: int = 1
    counted: str = "trajectories"

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What the arrays are a function of besides the config and the versions: the model, digests of all inputs."""

    @property
    @abstractmethod
    def constants(self) -> Constants:
        """Arrays that are known from the start, coordinates among them."""

    @property
    @abstractmethod
    def variables(self) -> Mapping[str, ArraySpec]:
        """Arrays that are filled by blocks; none for an experiment that only analyses other runs."""

    @abstractmethod
    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of a block, [trajectory, ...]: a pure function of the plan and the block.

        Args:
            block: The block.
            advance: Called after each of the block's `steps`.
        """

    @property
    def trajectories(self) -> int:
        """How many trajectories there are in all."""
        return int(self.config.trajectories)

    def blocks(self) -> list[Block]:
        """Return every block, in order."""
        return blocks(self.trajectories, self.config.block, self.parts)

    def steps(self, pending: list[Block]) -> int:
        """Return how often `advance` will be called for some blocks."""
        return len(pending)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long some blocks will take; 0 where that is not known."""
        return 0.0

    def needs(self) -> "Mapping[str, tuple[Experiment, Plan]]":
        """Return the runs that must be finished first, by their places below this one's directory."""
        return {}

    def settled(self, runs: "Mapping[str, Run]") -> "Plan":
        """Return the plan with what it takes from the runs that it needs."""
        return self

    def home(self, out: Path) -> Path:
        """Return the run's directory: where the user wants it, unless the plan is to analyse another's."""
        return out


@dataclass(frozen=True)
class Experiment:
    """An experiment: a package with config.py, measure.py, analyse.py and figures.py, each imported when it is used.

    Args:
        name: What a user calls it.
        package: Its full name.
    """

    name: str
    package: str

    @property
    def config(self) -> type[Any]:
        """The dataclass of its options, `Config` of config.py."""
        return self._find("config", "Config")

    @property
    def prepare(self) -> Callable[..., Plan]:
        """`prepare(config, given) -> Plan` of measure.py; `given` has live objects by the name of their field."""
        return self._find("measure", "prepare")

    @property
    def analyse(self) -> "Callable[[Run], Results]":
        """`analyse(run) -> Results` of analyse.py, a function of what is stored alone."""
        return self._find("analyse", "analyse")

    @property
    def figures(self) -> "Mapping[str, Callable[[Run], Figure | None]]":
        """`FIGURES` of figures.py, the main one first: each draws from a run, or gives None where there is nothing."""
        return self._find("figures", "FIGURES")

    def _find(self, module: str, name: str) -> Any:
        return getattr(import_module(f"{self.package}.{module}"), name)
