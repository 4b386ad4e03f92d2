"""The susceptibility by reverse sweeps: trials from the same noise at several strengths, differentiated at each level.

Sweeps are made at the nodes of Gauss-Radau's rule between no guidance and the weight in use, where the last part only
samples. A trial's response at no guidance is the first node.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from softmode.experiments.pulse.trials import EDM, SAMPLER, Guidance, features_of, find_guidance
from softmode.experiments.susceptibility.config import Config
from softmode.guidance.adjoint import Adjoint, Outcome, Sampling, radau
from softmode.message import first_line, refusal
from softmode.networks.own_posterior import LEVELS
from softmode.observe.alignment import alignment, change
from softmode.observe.state import Variable
from softmode.runs.classifier import NONE
from softmode.runs.experiment import Constants, Plan
from softmode.runs.identity import state_bytes
from softmode.runs.layout import SPACE, layout, space_sizes
from softmode.runs.store import ArraySpec, Block
from softmode.samplers import initial_state
from softmode.simulate import NonFiniteStateError

CHANGE = "change"
# log-odds of a class of 99 %, beyond which a sample is as good as sure
SURE = math.log(99)
# strength at which a sample's motion is found, as a share of the whole
STEP = 1e-2
# network calls of a denoiser in a sweep: down, again, and twice that for its derivative; of a guide without weight
CALLS, WITHOUT = 4, 1
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
    guidance = find_guidance(config, given or {})
    critical = known_level(config, guidance)
    if critical is not None:
        config = replace(config, sigma_c=critical.sigma_c.value)
        guidance = replace(guidance, config=config)
    check_differentiable(guidance, config.alignment)
    return AdjointPlan(guidance, config, critical)


@dataclass(frozen=True, eq=False)
class AdjointPlan(Plan):
    """Trials of some classes at several strengths, each from the same noise.

    Args:
        guidance: What is guided, and how.
        config: The config.
        critical: What is known of sigma_c; None where it was not asked for.
    """

    guidance: Guidance
    config: Config
    critical: Critical | None
    shrink = "steps"
    counted = "trials"

    @property
    def parts(self) -> int:  # type: ignore[override] # a property in place of Plan's default
        """The nodes, and the strength in use."""
        return self.config.nodes + 1

    @property
    def strengths(self) -> Float[Array, " node"]:
        """The strengths as shares of the weight in use."""
        return np.append(radau(self.config.nodes)[0], 1.0)

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
        """The model, its guide, the classifier, the digests of all files, and sigma_c where it is known."""
        known = {} if self.critical is None else self.critical.identity
        return {"model": self.guidance.fingerprint(), "inputs": dict(self.guidance.inputs), **known}

    @property
    def constants(self) -> Constants:
        """Noise levels, classes and trials, and what the classifier sees of real images."""
        return trial_constants(self.guidance)

    @property
    def variables(self) -> Mapping[str, ArraySpec]:
        """Derivatives, what they are of, samples and their scores, at every strength."""
        channels, *sides = self.guidance.model.shape
        state = ("channel", *SPACE[-len(sides) :])
        some = torch.zeros(1, *self.guidance.model.shape)
        sizes = {
            "trajectory": self.trajectories, "node": self.parts, "level": len(self.guidance.levels),
            "feature": features_of(some, self.guidance.classifier, self.guidance.device).shape[1],
            "channel": channels, **space_sizes(tuple(sides)),
        }  # fmt: skip
        described = {
            "gradient": Variable(("level",), "derivative of the value by the weight at each level", "1", "chi(sigma)"),
            "value": Variable((), "what guidance is to gain", "1", "H.6"),
            "probability": Variable((), "probability of the target class", "1", "H.6"),
            "logit": Variable((), "logit of the target class", "1", "H.6"),
            "image": Variable(state, "sample", "1", "H.4", "state"),
            "features": Variable(("feature",), "classifier's features of the sample", "1", "H.7", "float32"),
        }
        return layout(sizes, {name: each.along("node") for name, each in described.items()}, self.config.dtype)

    def steps(self, pending: list[Block]) -> int:
        """Return the sampler's steps, down and back."""
        steps = len(self.guidance.levels)
        passes = {block: self._passes(block.part) for block in pending}
        return sum(steps * passes[b] * len(set(trials_of(self.guidance, b.trajectories).labels)) for b in pending)

    def seconds(self, pending: list[Block]) -> float:
        """Return about how long the networks take."""
        return self.guidance.call_seconds * sum(self._cost(b.part) * len(b.trajectories) for b in pending)

    @property
    def _calls(self) -> int:
        """Calls of the denoiser on the way down."""
        return int(SAMPLER.calls(self.guidance.times).sum())

    def _extra(self, part: int) -> int:
        """Return how many more times a part samples, to know a trial's motion or its unguided twin."""
        return 0 if self.config.alignment != CHANGE else 2 if part == 0 else 1

    def _passes(self, part: int) -> int:
        return self._extra(part) + (2 if part < self.config.nodes else 1)

    def _cost(self, part: int) -> int:
        """Return the network evaluations of a trial."""
        judged = (LEVELS - 1) * len(self.guidance.labels) if self.config.classifier == NONE else 0
        swept = part < self.config.nodes
        own = (2, CALLS + WITHOUT, 2 * CALLS)[0 if not swept else 1 if part == 0 else 2]
        scored = judged * (CALLS if swept and self.config.alignment != CHANGE else 1)
        return self._calls * (own + 2 * self._extra(part)) + judged + scored

    def measure(self, block: Block, advance: Callable[[], None] = lambda: None) -> Mapping[str, Array]:
        """Return every array of the trials of a block at one strength."""
        found = [
            self._measure(label, trials, block.part, advance)
            for label, trials in trials_of(self.guidance, block.trajectories).by_class()
        ]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    def _measure(self, label: int, trials: list[int], part: int, advance: Callable[[], None]) -> dict[str, Array]:
        guidance, levels = self.guidance, self.guidance.levels
        noise = trial_noise(guidance, Trials.of(label, trials))
        x = initial_state(EDM, float(levels[0]), noise, guidance.model.shape, guidance.dtype)
        adjoint = Adjoint(flow(x, guidance.times, trials, advance), *guidance.denoisers[label], levels)
        whole = torch.full((len(trials), len(levels)), self.config.weight, dtype=torch.float64, device=x.device)
        weights = float(self.strengths[part]) * whole
        outcome = self._outcome(label, adjoint, whole, part)
        if part < self.config.nodes:
            final, value, gradient = adjoint.sweep(weights, outcome)
        else:
            final, gradient = adjoint.guided(weights), torch.full_like(weights, math.nan)
            with torch.no_grad():
                value = outcome(final).double()
        features = features_of(final, guidance.classifier, guidance.device)
        with torch.no_grad():
            logits = guidance.classifier.head(torch.from_numpy(features).to(guidance.device)).cpu()
        scores = alignment(logits, label)
        arrays = {"gradient": gradient, "value": value, "probability": scores.probability, "logit": scores.logit,
                  "image": final}  # fmt: skip
        return {name: each.cpu().numpy() for name, each in arrays.items()} | {"features": features}

    def _outcome(self, label: int, adjoint: Adjoint, whole: Tensor, part: int) -> Outcome:
        if self.config.alignment != CHANGE:
            return class_outcome(self.guidance, label, self.config.alignment)
        if part == 0:
            there, back = (adjoint.guided(sign * STEP * whole).double() for sign in (1, -1))
            return change_at_rest(there - back)
        twin = adjoint.guided(0 * whole)
        return lambda final: change(final, twin)


def flow(x: Tensor, times: Float[Tensor, " time"], trials: list[int], advance: Callable[[], None]) -> Sampling:
    """Return the sampler from some states; `advance` is called after each of its steps, and on the way back.

    Raises:
        NonFiniteStateError: At the first state that is NaN or infinite.
    """

    def sample(denoiser: Denoiser) -> Tensor:
        state = x
        for place, state in enumerate(SAMPLER.steps(denoiser, EDM, x.clone(), times), 1):
            bad = ~state.detach().flatten(1).isfinite().all(1)
            if bool(bad.any()):
                raise NonFiniteStateError(trials[int(bad.nonzero()[0])], float(times[place]))
            advance()
            if state.requires_grad:
                state.register_hook(lambda _gradient: advance())
        return state

    return sample


def class_outcome(guidance: Guidance, label: int, name: str) -> Outcome:
    """Return the alignment of samples with a class, in float64: its probability, the logarithm, or clipped log-odds."""

    def outcome(final: Tensor) -> Tensor:
        known = guidance.classifier(final.float()).double().log_softmax(1)
        own = known[:, label]
        if name != "logit":
            return own.exp() if name == "probability" else own
        others = torch.cat([known[:, :label], known[:, label + 1 :]], 1).logsumexp(1)
        return (own - others).clamp(-SURE, SURE)

    return outcome


def change_at_rest(motion: Float[Tensor, "trial channel *space"]) -> Outcome:
    r"""Return the rms change of samples where guidance begins, from the way that each of them sets out.

    The rms change has no derivative there but one to the right, $|\dot x|/\sqrt n$ along the way $\dot x$ of the
    guidance in use; so has each level the share $\dot x \cdot \partial x/\partial w_i / (|\dot x| \sqrt n)$ in it.

    Args:
        motion: Differences along the way.
    """
    flat = motion.flatten(1)
    along = flat / (flat.norm(dim=1, keepdim=True) * math.sqrt(flat.shape[1]))

    def outcome(final: Tensor) -> Tensor:
        moved = final.double().flatten(1)
        return ((moved - moved.detach()) * along).sum(1)

    return outcome


def check_differentiable(guidance: Guidance, name: str, remedy: str = REMEDY) -> None:
    """Raise a ValueError unless a step of one trial can be differentiated, and what is made of its sample.

    Args:
        guidance: What is guided, and how.
        name: The alignment.
        remedy: What to do about a classifier that cannot.
    """
    label, middle = guidance.labels[0], guidance.levels[[len(guidance.levels) // 2]]
    x = initial_state(
        EDM, float(middle), trial_noise(guidance, Trials.of(label, [0])), guidance.model.shape, guidance.dtype
    )
    outcome: Outcome = _total if name == CHANGE else class_outcome(guidance, label, name)
    with torch.enable_grad():
        some = x.clone().requires_grad_()
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
    sample = flow(x, torch.cat([middle, middle.new_zeros(1)]), [0], lambda: None)
    ones = torch.ones(1, 1, dtype=torch.float64, device=x.device)
    Adjoint(sample, *guidance.denoisers[label], middle).sweep(ones, outcome)


def _total(final: Tensor) -> Tensor:
    return final.double().flatten(1).sum(1)
