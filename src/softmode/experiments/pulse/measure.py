"""Pulses of guidance (paper H.4), and the plan of every experiment on guidance: trials under several conditions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from softmode.estimate import Array
from softmode.experiments.pulse.conditions import MOST, build
from softmode.experiments.pulse.config import Config, GuidedSampling, GuidedTrials
from softmode.experiments.pulse.critical import WINDOW, Critical, known_level, level_of, window_plan
from softmode.experiments.pulse.sampling import Cache, cost, measure, path_places
from softmode.experiments.pulse.trials import Condition, Guidance, features_of, find_guidance
from softmode.guidance.weights import Interval
from softmode.observe.state import Variable
from softmode.runs.experiment import Constants, Experiment, Plan
from softmode.runs.identity import state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.run import Run
from softmode.runs.store import ArraySpec, Block

# maps what is known of sigma_c to the config without open fields, and its conditions, the first of them unguided
Settle = Callable[[Critical], tuple[GuidedSampling, list[Condition]]]
# copies of a trial's states that are alive at once: those of its twin, its own, and its snapshots
STATES = 3


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "TrialsPlan":
    """Check a config and build what it describes.

    Args:
        config: What to guide and how.
        given: The `model`, the `guide` (a Model) and the `classifier` (an ImageClassifier) that are at hand.

    Raises:
        ValueError: If any field is out of range or a model cannot be used, naming the remedy.
    """
    guidance = find_guidance(config, given or {})
    if config.sigma_c is not None and config.half_width is not None and config.half_width >= config.sigma_c:
        raise ValueError(
            f"half_width: got {config.half_width:g}; expected less than sigma_c = {config.sigma_c:g}, or the pulse has "
            "no width in log sigma"
        )
    Interval(*config.interval, config.weight)

    def settle(critical: Critical) -> tuple[Config, list[Condition]]:
        sigma_c = critical.sigma_c.value
        half_width = sigma_c / 2 if config.half_width is None else config.half_width
        settled = replace(config, sigma_c=sigma_c, half_width=half_width)
        return settled, build(settled, guidance.levels, critical.window)

    return trials_plan(guidance, settle, MOST, clones=0, given=given or {})


@dataclass(frozen=True, eq=False)
class ConditionsPlan(Plan):
    """Trials of some classes, each under every condition from the same noise.

    Args:
        guidance: What is guided, and how.
        conditions: The conditions, the first of them unguided.
        cache: The unguided twins of the block at hand, sampled again where they are not.
    """

    guidance: Guidance
    conditions: tuple[Condition, ...] = field(default=(), kw_only=True)
    cache: Cache = field(default_factory=Cache, kw_only=True)
    shrink = "steps"
    counted = "trials"

    @property
    def config(self) -> GuidedTrials:
        """The config."""
        return self.guidance.config

    @property
    def parts(self) -> int:  # type: ignore[override] # a property in place of Plan's default
        """The conditions."""
        return len(self.conditions)

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a trial's network, and of its states at every level."""
        state = torch.empty(self.guidance.model.shape, dtype=self.guidance.dtype, device="meta")
        kept = STATES * len(self.guidance.levels) * state.nbytes
        return state_bytes(self.guidance.model, self.guidance.dtype) + kept

    @property
    def trajectories(self) -> int:
        """Trials of all classes."""
        return len(self.guidance.labels) * self.config.trials

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, its guide, the classifier, the digests of all files, and the conditions."""
        return {
            "model": self.guidance.fingerprint(), "inputs": dict(self.guidance.inputs),
            "conditions": [{"name": c.name, "definition": c.definition, "source": c.source} for c in self.conditions],
        }  # fmt: skip

    @property
    def constants(self) -> Constants:
        """Noise levels, classes and trials, and what the classifier sees of real images."""
        kept = self.guidance.levels[path_places(self.guidance.levels)].numpy()
        return {
            **trial_constants(self.guidance),
            "snapshot_level": constant(kept, ("snapshot",), "noise level of a kept D(x)"),
        }

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Samples, their scores, the guidance that each was given, and D(x) along the way of first trials."""
        guidance = self.guidance
        channels, *sides = guidance.model.shape
        state = ("channel", *SPACE[-len(sides) :])
        some = torch.zeros(1, *guidance.model.shape)
        sizes = {
            "trajectory": self.trajectories,
            "condition": self.parts,
            "level": len(guidance.levels),
            "snapshot": len(path_places(guidance.levels)),
            "feature": features_of(some, guidance.classifier, guidance.device).shape[1],
            "channel": channels,
            **space_sizes(tuple(sides)),
        }
        described = {
            "image": Variable(state, "sample", "1", "H.4", "state"),
            "path": Variable(
                ("snapshot", *state), "D(x) along the way, of first trials alone", "1", "H.9", "state"
            ),
            "features": Variable(("feature",), "what the classifier's last layer sees", "1", "classifier", "float32"),
            "logit": Variable((), "logit of the target class", "1", "H.6"),
            "probability": Variable((), "probability of the target class", "1", "H.6"),
            "predicted": Variable((), "most probable class", "1", "H.6", "int64"),
            "change": Variable((), "rms difference from the unguided twin", "1", "no classifier"),
            "weight": Variable(("level",), "weight w of the guidance", "1", "H.4"),
            "guide_calls": Variable((), "network calls that were guided", "1", "H.4", "int64"),
        }  # fmt: skip
        return layout(sizes, {name: each.along("condition") for name, each in described.items()}, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return the sampler's steps."""
        return sum(steps for steps, _ in self._costs(pending))

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the networks take."""
        return self.guidance.call_seconds * sum(calls for _, calls in self._costs(pending))

    def _costs(self, pending: list[Block]) -> list[tuple[int, int]]:
        """Return the cost of every block, and of the twins of those begun before, which are sampled again."""
        work = [(block.trajectories, block.part) for block in pending]
        whole = {trajectories for trajectories, part in work if part == 0}
        work += [(begun, 0) for begun in {trajectories for trajectories, _ in work} - whole]
        return [cost(self.guidance, trajectories, self.conditions[part]) for trajectories, part in work]

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of the trials of a block under one condition."""
        return measure(self.guidance, block.trajectories, self.conditions[block.part], self.cache, advance)


@dataclass(frozen=True, eq=False)
class TrialsPlan(ConditionsPlan):
    """The same, where the conditions are known once sigma_c is.

    Args:
        settle: Gives the conditions once sigma_c is known.
        most: How many of them there can be.
        window: Plan of the window that gives sigma_c; None where it is known.
        critical: What is known of sigma_c; None until the window is measured.
    """

    settle: Settle
    most: int
    window: Plan | None = None
    critical: Critical | None = None

    @property
    def config(self) -> GuidedSampling:
        """The config; sigma_c and what follows from it are open until the window is measured."""
        assert isinstance(self.guidance.config, GuidedSampling)
        return self.guidance.config

    @property
    def parts(self) -> int:  # type: ignore[override] # a property in place of Plan's default
        """The conditions, or as many as there can be."""
        return len(self.conditions) or self.most

    @property
    def identity(self) -> Mapping[str, Any]:
        """The same, and sigma_c."""
        return {**super().identity, **({} if self.critical is None else self.critical.identity)}

    def needs(self) -> Mapping[str, tuple[Experiment, Plan]]:
        """Return the window, unless sigma_c is known."""
        return {} if self.window is None else {"window": (WINDOW, self.window)}

    def settled(self, runs: Mapping[str, Run]) -> "TrialsPlan":
        """Return the plan with the sigma_c and the window that were measured.

        Raises:
            ValueError: If no window was found.
        """
        return self if self.window is None else self.at(level_of(self.config, runs["window"].results))

    def at(self, critical: Critical) -> "TrialsPlan":
        """Return the plan with its conditions."""
        config, conditions = self.settle(critical)
        guidance = replace(self.guidance, config=config)
        return replace(self, guidance=guidance, window=None, critical=critical, conditions=tuple(conditions))


def trial_constants(guidance: Guidance) -> Constants:
    """Return noise levels, classes and trials, and what the classifier sees of real images."""
    levels, labels, count = guidance.levels, guidance.labels, guidance.config.trials
    features, known = guidance.real
    arrays = {
        "level": constant(levels.numpy(), ("level",), "EDM noise level of the sampler"),
        "label": constant(np.repeat(labels, count), ("trajectory",), "class of the trajectory"),
        "trial": constant(np.tile(np.arange(count), len(labels)), ("trajectory",), "trial of its class"),
    }
    if len(features):
        arrays["real_features"] = constant(features, ("real", "feature"), "classifier's features of real images")
        arrays["real_label"] = constant(known, ("real",), "class of the real image, -1 where unknown")
    return arrays


def trials_plan(guidance: Guidance, settle: Settle, most: int, clones: int, given: Mapping[str, Any]) -> TrialsPlan:
    """Return the plan of an experiment on guidance.

    Args:
        guidance: What is guided, and how.
        settle: Gives the conditions once sigma_c is known.
        most: How many of them there can be.
        clones: Trajectories that are copied for the clone curve of a window that is measured first.
        given: What is at hand.

    Raises:
        ValueError: If sigma_c cannot be found, or the conditions cannot be met.
    """
    plan = TrialsPlan(guidance, settle, most)
    critical = known_level(plan.config, guidance)
    return replace(plan, window=window_plan(guidance, clones, given)) if critical is None else plan.at(critical)
