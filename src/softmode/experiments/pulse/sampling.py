"""Guided sampling: every condition of a trial from the same noise, scored by a classifier and against its twin.

Outside a pulse a guided trajectory is the unguided one, so that each condition begins at the step before its first
guided level, from the states of the unguided twins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.denoiser import Guided
from softmode.estimate import Array
from softmode.experiments.pulse.trials import (
    EDM,
    SAMPLER,
    Condition,
    Guidance,
    by_class,
    features_of,
    trial_noise,
)  # fmt: skip
from softmode.observe.alignment import alignment, change
from softmode.samplers import initial_state
from softmode.simulate import simulate

# denoised states that are kept of the first trial of a class (H.9)
PATH = 10
# noise levels between which these lie
PATH_LEVELS = (20.0, 0.05)


def _nothing() -> None:
    """Show no progress."""


@dataclass(frozen=True, eq=False)
class Twins:
    """Trajectories of some trials of one class.

    Args:
        states: States at every level, [trial, level, channel, *space], on the CPU.
        final: Samples, [trial, channel, *space].
    """

    states: Float[Tensor, "trial level channel *space"]
    final: Float[Tensor, "trial channel *space"]


@dataclass
class Cache:
    """The unguided twins of the block of trials at hand, by class, as all conditions of a block begin from them."""

    block: range = range(0)
    twins: dict[int, Twins] = field(default_factory=dict)

    def get(self, guidance: Guidance, block: range, on_step: Callable[[], None] = _nothing) -> dict[int, Twins]:
        """Return the twins of a block, sampled if they are not at hand."""
        if block != self.block:
            self.twins = {
                label: unguided(guidance, label, trials, on_step) for label, trials in by_class(guidance, block)
            }
            self.block = block
        return self.twins


def unguided(guidance: Guidance, label: int, trials: Sequence[int], on_step: Callable[[], None] = _nothing) -> Twins:
    """Sample some trials of a class without guidance."""
    noise = trial_noise(guidance, label, trials)
    x = initial_state(EDM, float(guidance.levels[0]), noise, guidance.model.shape, guidance.dtype)
    denoiser, _ = guidance.denoisers[label]
    every = range(len(guidance.levels))
    run = simulate(denoiser, EDM, x, guidance.times, noise, sampler=SAMPLER, snapshots_at=every, on_step=on_step)
    return Twins(run.snapshots, run.state)


def guided(
    guidance: Guidance,
    label: int,
    trials: Sequence[int],
    condition: Condition,
    twins: Twins,
    on_step: Callable[[], None] = _nothing,
) -> Twins:
    """Sample some trials of a class under a condition, from the states of their unguided twins.

    Trials that no level guides, and steps before the first guided level, are the twins' own.

    Source: paper H.1, H.4.
    """
    weights = weight_table(guidance, label, trials, condition)
    rows = weights.any(1).nonzero().flatten()
    states, final = twins.states.clone(), twins.final.clone()
    if condition.weight is None or not len(rows):
        return Twins(states, final)
    first = first_step(weights)
    chosen = [trials[i] for i in rows.tolist()]
    run = simulate(
        Guided(*guidance.denoisers[label], condition.weight(label, chosen)),
        EDM,
        twins.states[rows, first].to(guidance.device),
        guidance.times[first:],
        trial_noise(guidance, label, chosen),
        sampler=SAMPLER,
        snapshots_at=range(len(guidance.levels) - first),
        on_step=on_step,
    )
    states[rows, first:], final[rows] = run.snapshots, run.state
    return Twins(states, final)


def first_step(weights: Float[Tensor, "trial level"]) -> int:
    """Return the first step of the sampler that weights change; the number of levels if none is."""
    guided = weights.any(0).nonzero().flatten()
    # Heun's step into a level evaluates the denoiser there
    return max(int(guided[0]) - 1, 0) if len(guided) else weights.shape[1]


def cost(guidance: Guidance, trajectories: range, condition: Condition) -> tuple[int, int]:
    """Return the steps of the sampler that a condition of a block of trials takes, and its network evaluations."""
    steps = calls = 0
    for label, trials in by_class(guidance, trajectories):
        weights = weight_table(guidance, label, trials, condition)
        first = 0 if condition.weight is None else first_step(weights)
        moved = len(trials) if condition.weight is None else int(weights.any(1).sum())
        steps += len(guidance.levels) - first
        calls += moved * int(SAMPLER.calls(guidance.times[first:]).sum()) + int(_guide_calls(guidance, weights).sum())
    return steps, calls


def weight_table(
    guidance: Guidance, label: int, trials: Sequence[int], condition: Condition
) -> Float[Tensor, "trial level"]:
    """Return the weight of every trial at every level of the sampler, float64."""
    if condition.weight is None:
        return torch.zeros(len(trials), len(guidance.levels), dtype=torch.float64)
    weight = condition.weight(label, trials)
    return torch.stack([weight(level).expand(len(trials)) for level in guidance.levels], 1)


def measure(
    guidance: Guidance,
    trajectories: range,
    condition: Condition,
    cache: Cache,
    on_step: Callable[[], None] = _nothing,
) -> dict[str, Array]:
    """Sample and score the trials of a block under one condition; return every stored array, [trajectory, ...]."""
    twins = cache.get(guidance, trajectories, on_step)
    parts = [
        _measure(guidance, label, trials, condition, twins[label], on_step)
        for label, trials in by_class(guidance, trajectories)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measure(
    guidance: Guidance,
    label: int,
    trials: list[int],
    condition: Condition,
    twins: Twins,
    on_step: Callable[[], None],
) -> dict[str, Array]:
    run = guided(guidance, label, trials, condition, twins, on_step)
    features = features_of(run.final, guidance.classifier, guidance.device)
    with torch.no_grad():
        logits = guidance.classifier.head(torch.from_numpy(features).to(guidance.device)).cpu()
    weights = weight_table(guidance, label, trials, condition)
    scores = {name: value.numpy() for name, value in alignment(logits, label)._asdict().items()}
    return {
        **scores,
        "image": run.final.numpy(),
        "features": features,
        "change": change(run.final, twins.final).numpy(),
        "weight": weights.numpy(),
        "guide_calls": _guide_calls(guidance, weights).numpy(),
        "path": _path(guidance, label, trials, condition, run),
    }


def _guide_calls(guidance: Guidance, weights: Tensor) -> Tensor:
    """Return how often the guide is called for each trial of weights [trial, level], [trial]."""
    return ((weights != 0) * SAMPLER.calls(guidance.times)[:-1]).sum(1)


@torch.no_grad()
def _path(guidance: Guidance, label: int, trials: list[int], condition: Condition, run: Twins) -> Array:
    """Return D along the way of a class's first trial, [trial, snapshot, ...]; NaN for every other trial."""
    places = path_places(guidance.levels)
    path = torch.full((len(trials), len(places), *guidance.model.shape), np.nan, dtype=guidance.dtype)
    if 0 in trials:
        row = trials.index(0)
        denoiser, guide = guidance.denoisers[label]
        if condition.weight is not None:
            denoiser = Guided(denoiser, guide, condition.weight(label, [0]))
        for snapshot, place in enumerate(places):
            x = run.states[row : row + 1, place].to(guidance.device)
            path[row, snapshot] = denoiser(x, guidance.levels[place])[0].cpu()
    return path.numpy()


def path_places(levels: Float[Tensor, " level"]) -> list[int]:
    """Return the levels, by index, at which denoised states are kept: ten, evenly spaced in log sigma (H.9)."""
    wanted = torch.from_numpy(np.geomspace(*PATH_LEVELS, PATH)).clamp(float(levels[-1]), float(levels[0]))
    return sorted({int((levels.log() - at).abs().argmin()) for at in wanted.log()})
