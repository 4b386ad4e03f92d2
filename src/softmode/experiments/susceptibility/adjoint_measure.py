"""The susceptibility by reverse sweeps: trials from the same noise at several strengths, differentiated at each level.

All trials are swept at the same few strengths from no guidance to the weight in use, the first of which gives their
response without it, and each at further ones until its levels add up to what it gains.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.estimate import Array
from softmode.experiments.pulse.critical import Critical, known_level
from softmode.experiments.pulse.measure import trial_constants
from softmode.experiments.pulse.sampling import Trials, trial_noise, trials_of
from softmode.experiments.pulse.trials import Guidance, features_of, find_guidance
from softmode.experiments.susceptibility.config import Config
from softmode.experiments.susceptibility.known import LabelKnown, label_known
from softmode.experiments.susceptibility.outcomes import (
    CHANGE,
    Own,
    change_at_rest,
    check_alignment,
    class_outcome,
    own_measure,
)
from softmode.guidance.adjoint import Adjoint, Outcome, Sampling, Sweep
from softmode.guidance.attribution import attribute, strengths
from softmode.guidance.steps import Steps
from softmode.message import first_line, refusal
from softmode.networks.own_posterior import LEVELS
from softmode.observe.alignment import alignment, change
from softmode.observe.state import Variable
from softmode.runs.classifier import NONE
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import state_bytes
from softmode.runs.layout import SPACE, constant, layout, space_sizes
from softmode.runs.store import ArraySpec, Block
from softmode.simulation import NonFiniteStateError

# strength at which a sample's motion is found, as a share of the whole
STEP = 1e-2
# network calls of a denoiser in a sweep: down, again, and twice that for its derivative; of a guide without weight
CALLS, WITHOUT = 4, 1
# further sweeps of a trial, for an estimate of the time
FURTHER = 2
# a network's memory with what its derivative needs, in those of a call, for denoiser and guide together
KEPT = 4
REMEDY = "use another, --alignment change, which needs none, or --method pulses"


def prepare(config: Config, given: Mapping[str, Any] | None = None) -> "AdjointPlan":
    """Check a config and build what it describes.

    Args:
        config: What to guide and how.
        given: The `model`, the `guide` (a Model) and the `classifier` (an ImageClassifier) that are at hand.

    Raises:
        ValueError: If any field is out of range, or a model or classifier cannot be used or differentiated.
    """
    given = given or {}
    check_alignment(config.alignment, given.get("alignment"))
    guidance = find_guidance(config, given, config.sampler)
    own = own_measure(config.alignment, given.get("alignment"), guidance)
    critical = known_level(config, guidance)
    if critical is not None:
        config = replace(config, sigma_c=critical.sigma_c.value)
        guidance = replace(guidance, config=config)
    known = label_known(config.information, config.window, guidance.model)
    plan = AdjointPlan(guidance, config, critical, own, known)
    check_differentiable(guidance, None if config.alignment == CHANGE else plan.own_outcome(guidance.labels[0]))
    return plan


@dataclass(frozen=True, eq=False)
class AdjointPlan(Plan):
    """Trials of some classes at several strengths, each from the same noise.

    Args:
        guidance: What is guided, and how.
        config: The config.
        critical: What is known of sigma_c; None where it was not asked for.
        own: The user's own A; None where it is one of ours.
        known: What is known of the label along the noise levels; None where that was not asked for.
    """

    guidance: Guidance
    config: Config
    critical: Critical | None
    own: Own | None = None
    known: LabelKnown | None = None
    shrink = "steps"
    counted = "trials"

    @property
    def memory(self) -> float:  # type: ignore[override] # a property in place of Plan's default
        """Bytes of a trial's networks with what their derivative needs, and of its state at every call of them."""
        state = torch.empty(self.guidance.model.shape, dtype=self.guidance.dtype, device="meta")
        return KEPT * state_bytes(self.guidance.model, self.guidance.dtype) + self._calls * state.nbytes

    @property
    def trajectories(self) -> int:
        """Trials of all classes."""
        return len(self.guidance.labels) * self.config.trials

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, its guide, the classifier, the digests of all files, and what is known besides."""
        inputs = {**self.guidance.inputs, **({} if self.own is None else self.own.inputs)}
        return {
            "model": self.guidance.fingerprint(), "inputs": inputs, **self.guidance.sampler.identity,
            **({} if self.critical is None else self.critical.identity),
            **({} if self.own is None else self.own.identity(self.guidance)),
            **({} if self.known is None else self.known.identity),
        }  # fmt: skip

    @property
    def constants(self) -> Constants:
        """Noise levels, strengths, classes and trials, what the classifier sees of real images, the label's curve."""
        shared = constant(strengths(self.config.nodes), ("node",), "strength, as a share of the weight in use")
        known = {} if self.known is None else self.known.constants
        return {**trial_constants(self.guidance), "strength": shared, **known}

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Derivatives, what they are of, samples and their scores, at every strength."""
        channels, *sides = self.guidance.model.shape
        state = ("channel", *SPACE[-len(sides) :])
        some = torch.zeros(1, *self.guidance.model.shape)
        sizes = {
            "trajectory": self.trajectories, "node": self.config.nodes, "level": len(self.guidance.levels),
            "feature": features_of(some, self.guidance.classifier, self.guidance.device).shape[1],
            "channel": channels, **space_sizes(tuple(sides)),
        }  # fmt: skip
        at_strengths = {
            "gradient": Variable(("level",), "derivative of the value by the weight at each level", "1", "chi(sigma)"),
            "value": Variable((), "what guidance is to gain", "1", "H.6"),
            "probability": Variable((), "probability of the target class", "1", "H.6"),
            "logit": Variable((), "logit of the target class", "1", "H.6"),
            "image": Variable(state, "sample", "1", "H.4", "state"),
            "features": Variable(("feature",), "classifier's features of the sample", "1", "H.7", "float32"),
        }
        described = {name: each.along("node") for name, each in at_strengths.items()} | {
            "share": Variable(("level",), "what guidance gains at each level", "1", "sundararajan2017"),
            "further": Variable((), "further sweeps, at strengths of the trial's own", "1", "kuncir1962", "int64"),
        }
        return layout(sizes, described, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return the sampler's steps, down and back, at the strengths that all trials share."""
        passes = 2 * self.config.nodes + (2 if self.config.alignment == CHANGE else 0)
        labels = [len(set(trials_of(self.guidance, block.trajectories).labels)) for block in pending]
        return len(self.guidance.levels) * passes * sum(labels)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the networks take."""
        return self.guidance.call_seconds * self._cost * sum(len(block.trajectories) for block in pending)

    @property
    def _calls(self) -> int:
        """Calls of the denoiser on the way down."""
        return int(self.guidance.sampler.calls.sum())

    @property
    def _cost(self) -> int:
        """Return the network evaluations of a trial."""
        sweeps, name = self.config.nodes - 1 + FURTHER, self.config.alignment
        own = CALLS + WITHOUT + 2 * CALLS * sweeps + (4 if name == CHANGE else 0)
        judged = (LEVELS - 1) * len(self.guidance.labels) if self.config.classifier == NONE else 0
        return self._calls * own + judged * (self.config.nodes + (0 if name == CHANGE else CALLS * (1 + sweeps)))

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of the trials of a block."""
        found = [
            self._measure(label, trials, advance)
            for label, trials in trials_of(self.guidance, block.trajectories).by_class()
        ]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    def _measure(self, label: int, trials: list[int], advance: Callable[[], None]) -> dict[str, Array]:
        sweeps = _Sweeps(self, label, trials, advance)
        found = attribute(sweeps, sweeps.whole, self.config.nodes, self.config.tolerance)
        at_strengths = [self._arrays(label, each) for each in found.sweeps]
        stacked = {name: np.stack([each[name] for each in at_strengths], 1) for name in at_strengths[0]}
        return stacked | {"share": found.share, "further": found.extra}

    def _arrays(self, label: int, sweep: Sweep) -> dict[str, Array]:
        features = features_of(sweep.final, self.guidance.classifier, self.guidance.device)
        with torch.no_grad():
            logits = self.guidance.classifier.head(torch.from_numpy(features).to(self.guidance.device)).cpu()
        scores = alignment(logits, label)
        value = torch.where(sweep.value.isfinite(), sweep.value, math.nan)
        arrays = {"gradient": sweep.gradient, "value": value, "probability": scores.probability, "logit": scores.logit,
                  "image": sweep.final}  # fmt: skip
        return {name: each.cpu().numpy() for name, each in arrays.items()} | {"features": features}

    def own_outcome(self, label: int) -> Outcome:
        """Return A of samples of a class, where it is no change."""
        own = self.own
        if own is not None:
            return lambda final: own.function(final, label)
        return class_outcome(self.guidance, label, self.config.alignment)


class _Sweeps:
    """Sweeps of trials of a class at shares of the weight in use; the first one is without guidance."""

    def __init__(self, plan: AdjointPlan, label: int, trials: list[int], advance: Callable[[], None]) -> None:
        self.plan, self.label, self.trials, self.advance = plan, label, trials, advance
        levels = plan.guidance.levels
        self.whole = torch.full((len(trials), len(levels)), plan.config.weight, dtype=torch.float64).to(levels.device)
        self.unguided: Tensor | None = None
        # of these the steps are counted; how many further ones there will be is not known
        self.shared = plan.config.nodes

    def __call__(self, rows: list[int], share: Float[Tensor, " row"]) -> Sweep:
        """Return A of some trials, each at a share of the weight, and its derivatives."""
        advance = self.advance if self.shared else _nothing
        self.shared = max(self.shared - 1, 0)
        adjoint = adjoint_of(self.plan.guidance, self.label, [self.trials[row] for row in rows], advance)
        sweep = adjoint.sweep(share[:, None].to(self.whole) * self.whole[rows], self._outcome(adjoint, rows))
        if self.unguided is None:
            self.unguided = sweep.final
        return sweep

    def _outcome(self, adjoint: Adjoint, rows: list[int]) -> Outcome:
        if self.plan.config.alignment != CHANGE:
            return self.plan.own_outcome(self.label)
        if self.unguided is None:
            there, back = (adjoint.guided(sign * STEP * self.whole).double() for sign in (1, -1))
            return change_at_rest(there - back)
        twins = self.unguided[rows]
        return lambda final: change(final, twins)


def _nothing() -> None:
    """Show no progress."""


def adjoint_of(
    guidance: Guidance, label: int, trials: list[int], advance: Callable[[], None] = lambda: None, first: bool = False
) -> Adjoint:
    """Return the guided sampler of some trials of a class; `first`: of its first step alone."""
    steps = guidance.sampler
    x = steps.start(trial_noise(guidance, Trials.of(label, trials)), guidance.model.shape, guidance.dtype)
    denoiser, guide = (steps.asked(each) for each in guidance.denoisers[label])
    return Adjoint(flow(x, steps, trials, advance, 1 if first else None), denoiser, guide, steps.levels)


def flow(x: Tensor, steps: Steps, trials: list[int], advance: Callable[[], None], most: int | None = None) -> Sampling:
    """Return the sampler from some states; `advance` is called after each of its steps, and on the way back.

    Raises:
        NonFiniteStateError: At the first state that is NaN or infinite.
    """

    def sample(denoiser: Denoiser) -> Tensor:
        state, ends = x, [*steps.levels[1:].tolist(), 0.0]
        for end, state in zip(ends, islice(steps.states(denoiser, x), most), strict=False):
            bad = ~state.detach().flatten(1).isfinite().all(1)
            if bool(bad.any()):
                raise NonFiniteStateError(trials[int(bad.nonzero()[0])], end)
            advance()
            if state.requires_grad:
                state.register_hook(lambda _gradient: advance())
        return state

    return sample


def check_differentiable(guidance: Guidance, outcome: Outcome | None, remedy: str = REMEDY) -> None:
    """Raise a ValueError unless a step of one trial can be differentiated, and what is made of its sample.

    Args:
        guidance: What is guided, and how.
        outcome: A of samples of the first class; None where that needs no classifier.
        remedy: What to do about a classifier that cannot.
    """
    outcome = outcome or _total
    adjoint = adjoint_of(guidance, guidance.labels[0], [0], first=True)
    weights = torch.ones(1, len(guidance.levels), dtype=torch.float64, device=guidance.device)
    with torch.enable_grad():
        some = adjoint.guided(0 * weights).requires_grad_()
        try:
            value = outcome(some)
            carried = value.requires_grad
            if carried:
                torch.autograd.grad(value.sum(), some, materialize_grads=True)
        # whatever torch says of an operation without a derivative
        except RuntimeError as error:
            raise refusal(f"classifier: cannot be differentiated ({first_line(error)}); {remedy}") from error
    if not carried:
        raise refusal(f"classifier: its answer does not depend on the sample by differentiable operations; {remedy}")
    adjoint.sweep(weights, outcome)


def _total(final: Tensor) -> Tensor:
    return final.double().flatten(1).sum(1)
