"""What a window needs: a probe of the model and copies of its trajectories, or a probe that is finished already."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from softmode.bounds import check, shown
from softmode.data import read_images
from softmode.estimate import Array
from softmode.experiments.probe.config import Config as ProbeConfig
from softmode.experiments.probe.measure import ProbePlan
from softmode.experiments.probe.measure import prepare as prepare_probe
from softmode.experiments.window.config import Config
from softmode.experiments.window.criteria import CLONES, CLONES_IN, PROBE
from softmode.experiments.window.decided import INFORMATION, INSTABILITY, KNOWN_IN, SOFT_IN
from softmode.experiments.window.quick import QUICK, STATES
from softmode.labels import Label
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.runs.experiment import Constants, Experiment, Plan
from softmode.runs.store import ArraySpec, Block, Store, is_run
from softmode.targets import Target, targets

# fewest trajectories that have an interval
LEAST = 2
# most values of all labels together that are followed unless the user names some
VALUES = 32


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "WindowPlan":
    """Check a config and build what it describes.

    Args:
        config: What to probe and how, or the directory of a finished probe as its model.
        given: Live objects in place of what the config names: `model`, `classifier`.

    Raises:
        ValueError: If any field is out of range, the model cannot be used, or its directory holds no probe.
    """
    check(config)
    if config.trajectories < LEAST:
        raise refusal(f"trajectories: got {config.trajectories}; expected at least {LEAST}: fewer have no interval")
    given = given or {}
    if "model" not in given and is_run(config.model):
        made = Store(Path(config.model)).identity.get("experiment")
        if made != PROBE.name:
            raise refusal(
                f"model: {quote(config.model)} holds a run of {made}; softmode window takes one of softmode probe or "
                "softmode window"
            )
        _refuse_beside(config, "model", "a finished run is analysed as it was measured")
        return WindowPlan(config, home_of=Path(config.model))
    if config.quick:
        _refuse_beside(config, "", "--quick has its own", ("trajectories", "steps", "snapshots"))
    settings = {field.name: getattr(config, field.name) for field in fields(ProbeConfig)}
    probe = prepare_probe(ProbeConfig(**settings | _quick(config, "probe")), given)
    _check_scale(probe)
    told, many = {**given, "model": probe.model}, STATES * config.trajectories
    clones = None
    if config.clones and not config.quick:
        clones = CLONES.prepare(_of(CLONES, config, **_of_clones(config)), told)
    known, asked = None, _followed(config, probe.model)
    if not asked and not config.labels and (values := len(probe.model.labels)) > VALUES:
        warnings.warn(
            f"labels: the model takes {values}, too many to follow them all, so the softest modes answer; --labels "
            "with some of them asks when these are told apart",
            stacklevel=2,
        )
    if asked:
        images = {"trajectories": many} | _quick(config, "known")
        # two of each value at least, or values have no spread
        images["trajectories"] = max(images["trajectories"], 2 * max(len(target.labels) for target in asked))
        labels = asked[0].labels if len(asked) == 1 else (None,)
        enough = _has_data(config, probe.model, labels, images["trajectories"])
        images |= {"states": "auto"} if enough else {"states": "samples", "data": ""}
        known = INFORMATION.prepare(_of(INFORMATION, config, **images), told)
    soft = None
    if known is None or not config.quick:
        states = {"trajectories": config.trajectories if known else many, "growth": False} | _quick(config, "soft")
        enough = _has_data(config, probe.model, config.labels or (None,), states["trajectories"])
        states |= {"states": "forward"} if enough else {"states": "reverse"}
        soft = INSTABILITY.prepare(_of(INSTABILITY, config, **states), told)
    return WindowPlan(config, probe, clones, soft, known)


def _refuse_beside(config: Config, of: str, why: str, names: Sequence[str] = ()) -> None:
    """Raise a ValueError if a field of some names, or any but one, is not left at its default."""
    for field in fields(config):
        chosen = getattr(config, field.name)
        if field.name != of and field.name in (names or [field.name]) and chosen != field.default:
            raise refusal(f"{field.name}: got {shown(chosen)}; {why}: leave it out")


def _quick(config: Config, part: str) -> dict[str, Any]:
    return QUICK[part] if config.quick else {}


def _followed(config: Config, model: Model) -> tuple[Target, ...]:
    """Return the labels that are followed: those that the user names, or all of few; none of one alone."""
    asked = targets(model, config.labels)
    values = sum(len(target.labels) for target in asked)
    return asked if len(asked) < values <= VALUES and len(config.labels) != 1 else ()


def _check_scale(probe: ProbePlan) -> None:
    """Raise a ValueError if a model's lowest noise level is beyond the scale of its data, where those are known."""
    nulls = [of_class.null for of_class in probe.classes.values()]
    if probe.model.levels is None or any(null is None for null in nulls):
        return
    scale = max(math.sqrt(float(null.spectrum.mean())) for null in nulls if null is not None)
    if (lowest := probe.model.levels[0]) > scale:
        raise refusal(
            f"model: {quote(probe.model.name)} knows noise levels from {lowest:.3g} up, above the scale of its data, "
            f"{scale:.3g}: what is decided below them cannot be seen"
        )


def _has_data(config: Config, model: Model, labels: Sequence[Label], states: int) -> bool:
    """Return whether there are data for so many states, dealt out to labels in turn."""
    if config.data:
        return states <= len(labels) * len(read_images(config.data, model.shape))
    images = [model.held_out(label) for label in labels]
    return all(each is not None and states <= len(labels) * len(each) for each in images)


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
