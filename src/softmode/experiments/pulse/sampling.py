"""Guided sampling: every condition of a trial from the same noise, scored by a classifier and against its twin.

Outside a pulse a guided trajectory is the unguided one, so that each condition begins at the step before its first
guided level, from the states of the unguided twins.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Guided
from softmode.estimate import Array
from softmode.experiments.pulse.trials import SAMPLER, Condition, Guidance, Weight, features_of
from softmode.guidance.steps import EDM
from softmode.observe.alignment import alignment, change
from softmode.samplers import initial_state
from softmode.simulation import simulate
from softmode.streams import TrajectoryNoise, trial_key

# denoised states that are kept of the first trial of a class (H.9)
PATH = 10
# noise levels between which these lie
PATH_LEVELS = (20.0, 0.05)


class Trials(NamedTuple):
    """Trials that are sampled together.

    Attributes:
        labels: Class of each; those of a class come one after the other.
        trials: Which trial of its class each is.
    """

    labels: list[int]
    trials: list[int]

    @classmethod
    def of(cls, label: int, trials: Sequence[int]) -> "Trials":
        """Return trials of one class."""
        return cls([label] * len(trials), list(trials))

    def some(self, rows: Sequence[int]) -> "Trials":
        """Return the trials in some places."""
        return Trials([self.labels[row] for row in rows], [self.trials[row] for row in rows])

    def by_class(self) -> Iterator[tuple[int, list[int]]]:
        """Yield each class with its trials."""
        for label in dict.fromkeys(self.labels):
            yield label, [trial for own, trial in zip(self.labels, self.trials, strict=True) if own == label]


def _nothing() -> None:
    """Show no progress."""


@dataclass(frozen=True, eq=False)
class Twins:
    """Trajectories of some trials.

    Args:
        states: States at every level, [trial, level, channel, *space], on the CPU.
        final: Samples, [trial, channel, *space].
    """

    states: Float[Tensor, "trial level channel *space"]
    final: Float[Tensor, "trial channel *space"]


@dataclass
class Cache:
    """The unguided twins of the block of trials at hand, in its batches, as all conditions of a block begin there."""

    block: range = range(0)
    twins: list[Twins] = field(default_factory=list)

    def get(self, guidance: Guidance, block: range, on_step: Callable[[], None] = _nothing) -> list[Twins]:
        """Return the twins of a block, sampled if they are not at hand."""
        if block != self.block:
            self.twins = [unguided(guidance, trials, on_step) for trials in batches(guidance, block)]
            self.block = block
        return self.twins


def trial_noise(guidance: Guidance, trials: Trials) -> TrajectoryNoise:
    """Return the random numbers of some trials; those of a trial do not depend on which others there are."""
    keys = [trial_key(label) for label in trials.labels]
    return TrajectoryNoise(guidance.config.seed, trials.trials, guidance.device, keys)


def unguided(guidance: Guidance, trials: Trials, on_step: Callable[[], None] = _nothing) -> Twins:
    """Sample some trials without guidance."""
    noise = trial_noise(guidance, trials)
    x = initial_state(EDM, float(guidance.levels[0]), noise, guidance.model.shape, guidance.dtype)
    denoiser, _ = guidance.pair(trials.labels)
    every = range(len(guidance.levels))
    run = simulate(denoiser, EDM, x, guidance.times, noise, sampler=SAMPLER, snapshots_at=every, on_step=on_step)
    return Twins(run.snapshots, run.state)


def guided(
    guidance: Guidance,
    trials: Trials,
    condition: Condition,
    twins: Twins,
    on_step: Callable[[], None] = _nothing,
) -> Twins:
    """Sample some trials under a condition, from the states of their unguided twins.

    Trials that no level guides, and steps before the first guided level, are the twins' own.

    Source: paper H.1, H.4.
    """
    weights = weight_table(guidance, trials, condition)
    rows = weights.any(1).nonzero().flatten()
    states, final = twins.states.clone(), twins.final.clone()
    if condition.weight is None or not len(rows):
        return Twins(states, final)
    first, chosen = first_step(weights), trials.some(rows.tolist())
    run = simulate(
        Guided(*guidance.pair(chosen.labels), weight_of(condition, chosen)),
        EDM,
        twins.states[rows, first].to(guidance.device),
        guidance.times[first:],
        trial_noise(guidance, chosen),
        sampler=SAMPLER,
        snapshots_at=range(len(guidance.levels) - first),
        on_step=on_step,
    )
    states[rows, first:], final[rows] = run.snapshots, run.state
    return Twins(states, final)


def weight_of(condition: Condition, trials: Trials) -> Weight:
    """Return the weight of a condition for a batch of trials, [trial]."""
    assert condition.weight is not None
    parts = [(condition.weight(label, own), len(own)) for label, own in trials.by_class()]
    if len(parts) == 1:
        return parts[0][0]
    return lambda sigma: torch.cat([weight(sigma).expand(count) for weight, count in parts])


def first_step(weights: Float[Tensor, "trial level"]) -> int:
    """Return the first step of the sampler that weights change; the number of levels if none is."""
    guided = weights.any(0).nonzero().flatten()
    # Heun's step into a level evaluates the denoiser there
    return max(int(guided[0]) - 1, 0) if len(guided) else weights.shape[1]


def cost(guidance: Guidance, trajectories: range, condition: Condition) -> tuple[int, int]:
    """Return the steps of the sampler that a condition of a block of trials takes, and its network evaluations."""
    steps = calls = 0
    for trials in batches(guidance, trajectories):
        weights = weight_table(guidance, trials, condition)
        first = 0 if condition.weight is None else first_step(weights)
        moved = len(weights) if condition.weight is None else int(weights.any(1).sum())
        steps += len(guidance.levels) - first
        calls += moved * int(SAMPLER.calls(guidance.times[first:]).sum()) + int(_guide_calls(guidance, weights).sum())
    return steps, calls


def weight_table(guidance: Guidance, trials: Trials, condition: Condition) -> Float[Tensor, "trial level"]:
    """Return the weight of every trial at every level of the sampler, float64."""
    count = len(trials.trials)
    if condition.weight is None:
        return torch.zeros(count, len(guidance.levels), dtype=torch.float64)
    weight = weight_of(condition, trials)
    return torch.stack([weight(level).expand(count) for level in guidance.levels], 1)


def measure(
    guidance: Guidance,
    trajectories: range,
    condition: Condition,
    cache: Cache,
    on_step: Callable[[], None] = _nothing,
    along: bool = True,
) -> dict[str, Array]:
    """Sample and score the trials of a block under one condition; return every stored array, [trajectory, ...].

    Args:
        guidance: What is guided, and how.
        trajectories: The block.
        condition: How.
        cache: The unguided twins of the block at hand.
        on_step: Called after each step of the sampler.
        along: Whether D(x) along the way of first trials, `path`, is among the arrays.
    """
    twins = cache.get(guidance, trajectories, on_step)
    parts = [
        _measure(guidance, trials, condition, own, on_step, along)
        for trials, own in zip(batches(guidance, trajectories), twins, strict=True)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def trials_of(guidance: Guidance, trajectories: range) -> Trials:
    """Return the trials of a block; trajectories run through those of one class after the other."""
    places, trials = zip(*(divmod(i, guidance.config.trials) for i in trajectories), strict=True)
    return Trials([guidance.labels[place] for place in places], list(trials))


def batches(guidance: Guidance, trajectories: range) -> Iterator[Trials]:
    """Yield the trials that are sampled together: all of a block, or those of each class."""
    whole = trials_of(guidance, trajectories)
    if guidance.together is not None:
        yield whole
    else:
        yield from (Trials.of(label, own) for label, own in whole.by_class())


def _measure(
    guidance: Guidance, trials: Trials, condition: Condition, twins: Twins, on_step: Callable[[], None], along: bool
) -> dict[str, Array]:
    run = guided(guidance, trials, condition, twins, on_step)
    features = features_of(run.final, guidance.classifier, guidance.device)
    with torch.no_grad():
        logits = guidance.classifier.head(torch.from_numpy(features).to(guidance.device)).cpu()
    weights = weight_table(guidance, trials, condition)
    scores = {name: value.numpy() for name, value in alignment(logits, torch.tensor(trials.labels))._asdict().items()}
    return {
        **scores,
        "image": run.final.numpy(),
        "features": features,
        "change": change(run.final, twins.final).numpy(),
        "weight": weights.numpy(),
        "guide_calls": _guide_calls(guidance, weights).numpy(),
        **({"path": _path(guidance, trials, condition, run)} if along else {}),
    }


def _guide_calls(guidance: Guidance, weights: Tensor) -> Tensor:
    """Return how often the guide is called for each trial of weights [trial, level], [trial]."""
    return ((weights != 0) * SAMPLER.calls(guidance.times)[:-1]).sum(1)


@torch.no_grad()
def _path(guidance: Guidance, trials: Trials, condition: Condition, run: Twins) -> Array:
    """Return D along the way of each class's first trial, [trial, snapshot, ...]; NaN for every other trial."""
    places = path_places(guidance.levels)
    path = torch.full((len(trials.trials), len(places), *guidance.model.shape), np.nan, dtype=guidance.dtype)
    for row in (row for row, trial in enumerate(trials.trials) if trial == 0):
        own = trials.some([row])
        denoiser, guide = guidance.pair(own.labels)
        if condition.weight is not None:
            denoiser = Guided(denoiser, guide, weight_of(condition, own))
        for snapshot, place in enumerate(places):
            x = run.states[row : row + 1, place].to(guidance.device)
            path[row, snapshot] = denoiser(x, guidance.levels[place])[0].cpu()
    return path.numpy()


def path_places(levels: Float[Tensor, " level"]) -> list[int]:
    """Return the levels, by index, at which denoised states are kept: ten, evenly spaced in log sigma (H.9)."""
    wanted = torch.from_numpy(np.geomspace(*PATH_LEVELS, PATH)).clamp(float(levels[-1]), float(levels[0]))
    return sorted({int((levels.log() - at).abs().argmin()) for at in wanted.log()})
