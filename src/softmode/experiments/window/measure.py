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
from softmode.experiments.window.decided import INFORMATION, INSTABILITY, KNOWN_IN, SOFT_IN
from softmode.message import quote, refusal
from softmode.runs.experiment import Constants, Experiment, Plan
from softmode.runs.store import ArraySpec, Block, Store, is_run
from softmode.targets import targets

# images that are noised for the labels, for each trajectory of the probe
IMAGES = 4


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
    told = {**given, "model": probe.model}
    clones = CLONES.prepare(_of(CLONES, config, **_of_clones(config)), told) if config.clones else None
    soft = INSTABILITY.prepare(_of(INSTABILITY, config), told)
    known = None
    if len(config.labels) != 1 and targets(probe.model):
        images = {"trajectories": IMAGES * config.trajectories, "states": "auto"}
        known = INFORMATION.prepare(_of(INFORMATION, config, **images), told)
    return WindowPlan(config, probe, clones, soft, known)


def _of(experiment: Experiment, config: Config, **own: Any) -> Any:
    """Return the config of an experiment that a window is made of: what both have, and settings of its own."""
    made = experiment.config
    shared = {field.name: getattr(config, field.name) for field in fields(made) if hasattr(config, field.name)}
    return made(**shared | own)


def _of_clones(config: Config) -> dict[str, Any]:
    return {"trajectories": config.clones, "steps": config.clone_steps, "t_max": None, "t_min": None}


@dataclass(frozen=True, eq=False)
class WindowPlan(Plan):
    """The runs that a window is an analysis of; it measures nothing itself.

    Args:
        config: The config.
        probe: Plan of the probe; None where that is finished.
        clones: Plan of the copies; None where they are left out or the probe is finished.
        soft: Plan of the softest modes; None where the probe is finished.
        known: Plan of what is known of the labels; None where there are none, or the probe is finished.
        home_of: Directory of the finished probe.
    """

    config: Config
    probe: ProbePlan | None = None
    clones: Plan | None = None
    soft: Plan | None = None
    known: Plan | None = None
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
        """Return the probe, in the window's own directory, and what else the answer is of below it."""
        wanted = {
            "": (PROBE, self.probe), KNOWN_IN: (INFORMATION, self.known), SOFT_IN: (INSTABILITY, self.soft),
            CLONES_IN: (CLONES, self.clones),
        }  # fmt: skip
        return {place: (experiment, plan) for place, (experiment, plan) in wanted.items() if plan is not None}

    def home(self, out: Path) -> Path:
        """Return the probe's directory."""
        return self.home_of or out
