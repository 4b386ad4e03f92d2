"""What a window needs: a probe of the model and copies of its trajectories, or a probe that is finished already."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from softmode.bounds import check
from softmode.estimate import Array
from softmode.experiments.probe.config import Config as ProbeConfig
from softmode.experiments.probe.measure import ProbePlan
from softmode.experiments.probe.measure import prepare as prepare_probe
from softmode.experiments.window.config import Config
from softmode.experiments.window.criteria import CLONES, CLONES_IN, PROBE
from softmode.message import quote, refusal
from softmode.runs.experiment import Constants, Experiment, Plan
from softmode.runs.store import ArraySpec, Block, Store, is_run


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "WindowPlan":
    """Check a config and build what it describes.

    Args:
        config: What to probe and how, or the directory of a finished probe as its model.
        given: Live objects in place of what the config names: `model`, `classifier`.

    Raises:
        ValueError: If any field is out of range, the model cannot be used, or its directory holds no probe.
    """
    check(config)
    given = given or {}
    if "model" not in given and is_run(config.model):
        made = Store(Path(config.model)).identity.get("experiment")
        if made != PROBE.name:
            raise refusal(
                f"model: {quote(config.model)} holds a run of {made}; softmode window takes one of softmode probe or "
                "softmode window"
            )
        return WindowPlan(config, home_of=Path(config.model))
    settings = {field.name: getattr(config, field.name) for field in fields(ProbeConfig)}
    probe = prepare_probe(ProbeConfig(**settings), given)
    clones = CLONES.prepare(_clones_config(config), {**given, "model": probe.model}) if config.clones else None
    return WindowPlan(config, probe, clones)


def _clones_config(config: Config) -> Any:
    """Return the config of the clones that belong to a window's probe."""
    made = CLONES.config
    shared = {field.name: getattr(config, field.name) for field in fields(made) if hasattr(config, field.name)}
    own = {"trajectories": config.clones, "steps": config.clone_steps, "t_max": None, "t_min": None}
    return made(**shared | own)


@dataclass(frozen=True, eq=False)
class WindowPlan(Plan):
    """The runs that a window is an analysis of; it measures nothing itself.

    Args:
        config: The config.
        probe: Plan of the probe; None where that is finished.
        clones: Plan of the copies; None where they are left out or the probe is finished.
        home_of: Directory of the finished probe.
    """

    config: Config
    probe: ProbePlan | None = None
    clones: Plan | None = None
    home_of: Path | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """Nothing: the arrays are the probe's."""
        return {}

    @property
    def constants(self) -> Constants:
        """None."""
        return {}

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """None."""
        return {}

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return nothing."""
        return {}

    def needs(self) -> Mapping[str, tuple[Experiment, Plan]]:
        """Return the probe, in the window's own directory, and the clones below it."""
        wanted = {"": (PROBE, self.probe), CLONES_IN: (CLONES, self.clones)}
        return {place: (experiment, plan) for place, (experiment, plan) in wanted.items() if plan is not None}

    def home(self, out: Path) -> Path:
        """Return the probe's directory."""
        return self.home_of or out
