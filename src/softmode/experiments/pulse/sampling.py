"""Guided sampling: every condition of a trial from the same noise, scored by a classifier and against its twin.

Outside a pulse a guided trajectory is the unguided one, so that each condition begins at the step before its first
guided level, from the states of the unguided twins.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from softmode.denoiser import Guided
from softmode.dynamics import TrajectoryNoise, heun, initial_state, simulate
from softmode.estimate import Array
from softmode.experiments.curves import SPACE, constant, layout
from softmode.experiments.guided_setup import Condition, Guidance, features_of
from softmode.observe.alignment import alignment, change
from softmode.process import VE
from softmode.runs.store import ArraySpec

# the process of the paper's guidance experiments (H.1); a denoiser knows no other coordinates
EDM = VE()
# denoised states that are kept of the first trial of a class (H.9)
PATH = 10
# noise levels between which these lie
PATH_LEVELS = (20.0, 0.05)


@dataclass(frozen=True, eq=False)
class Twins:
    """Unguided trajectories of some trials of one class.

    Args:
        states: States at every level, [trial, level, channel, *space], on the CPU.
        final: Samples, [trial, channel, *space].
    """

    states: Tensor
    final: Tensor


@dataclass
class Cache:
    """The unguided twins of the block of trials at hand, by class, as all conditions of a block begin from them."""

    block: range = range(0)
    twins: dict[int, Twins] = field(default_factory=dict)

    def get(self, guidance: Guidance, block: range, on_step: Callable[[], None]) -> dict[int, Twins]:
        """Return the twins of a block, sampled if they are not at hand."""
        if block != self.block:
            self.block = block
            self.twins = {
                label: unguided(guidance, label, trials, on_step) for label, trials in by_class(guidance, block)
            }
        return self.twins


def trial_noise(guidance: Guidance, label: int, trials: Sequence[int]) -> TrajectoryNoise:
    """Return the random numbers of some trials; those of a trial do not depend on which others there are."""
    return TrajectoryNoise(guidance.config.seed, trials, guidance.device, (label,))


def unguided(
    guidance: Guidance, label: int, trials: Sequence[int], on_step: Callable[[], None] = lambda: None
) -> Twins:
    """Sample some trials of a class without guidance."""
    noise = trial_noise(guidance, label, trials)
    x = initial_state(EDM, float(guidance.levels[0]), noise, guidance.model.shape, guidance.dtype)
    denoiser, _ = guidance.denoisers[label]
    every = range(len(guidance.levels))
    run = simulate(denoiser, EDM, x, _times(guidance), noise, stepper=heun, snapshots_at=every, on_step=on_step)
    return Twins(run.snapshots, run.state)


def guided(
    guidance: Guidance,
    label: int,
    trials: Sequence[int],
    condition: Condition,
    twins: Twins,
    on_step: Callable[[], None] = lambda: None,
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
    denoiser = Guided(*guidance.denoisers[label], condition.weight(label, chosen))
    x = twins.states[rows, first].to(guidance.device)
    run = simulate(
        denoiser, EDM, x, _times(guidance)[first:], trial_noise(guidance, label, chosen), stepper=heun,
        snapshots_at=range(len(guidance.levels) - first), on_step=on_step,
    )  # fmt: skip
    states[rows, first:], final[rows] = run.snapshots, run.state
    return Twins(states, final)


def first_step(weights: Tensor) -> int:
    """Return the first step of the sampler that weights [trial, level] change; the number of levels if none is."""
    guided = weights.any(0).nonzero().flatten()
    # Heun's step into a level evaluates the denoiser there
    return max(int(guided[0]) - 1, 0) if len(guided) else weights.shape[1]


def steps_of(guidance: Guidance, trajectories: range, condition: Condition) -> int:
    """Return the steps of the sampler that a condition of a block of trials takes."""
    if condition.weight is None:
        return len(list(by_class(guidance, trajectories))) * len(guidance.levels)
    tables = [weight_table(guidance, *group, condition) for group in by_class(guidance, trajectories)]
    return sum(len(guidance.levels) - first_step(table) for table in tables)


def weight_table(guidance: Guidance, label: int, trials: Sequence[int], condition: Condition) -> Tensor:
    """Return the weight of every trial at every level of the sampler, float64 [trial, level]."""
    if condition.weight is None:
        return torch.zeros(len(trials), len(guidance.levels), dtype=torch.float64)
    weight = condition.weight(label, trials)
    return torch.stack([weight(level).expand(len(trials)) for level in guidance.levels], 1)


def calls_at(levels: Tensor) -> Tensor:
    """Return how often Heun's method, with an Euler step to zero noise, calls the network at each level, [level]."""
    calls = torch.full((len(levels),), 2, dtype=torch.int64)
    calls[0] = 1
    return calls


def measure(
    guidance: Guidance,
    trajectories: range,
    condition: Condition,
    cache: Cache,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Array]:
    """Sample and score the trials of a block under one condition; return every stored array, [trajectory, ...]."""
    twins = cache.get(guidance, trajectories, on_step)
    parts = [
        _measure(guidance, label, trials, condition, twins[label], on_step)
        for label, trials in by_class(guidance, trajectories)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def by_class(guidance: Guidance, trajectories: range) -> Iterator[tuple[int, list[int]]]:
    """Yield (class, its trials) of some trajectories, which run through the trials of one class after the other."""
    count = guidance.config.trials
    for place in sorted({i // count for i in trajectories}):
        yield guidance.labels[place], [i % count for i in trajectories if i // count == place]


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
        "guide_calls": ((weights != 0) * calls_at(guidance.levels)).sum(1).numpy(),
        "path": _path(guidance, label, trials, condition, run),
    }


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


def path_places(levels: Tensor) -> list[int]:
    """Return the levels, by index, at which denoised states are kept: ten, evenly spaced in log sigma (H.9)."""
    wanted = torch.from_numpy(np.geomspace(*PATH_LEVELS, PATH)).clamp(float(levels[-1]), float(levels[0]))
    return sorted({int((levels.log() - at).abs().argmin()) for at in wanted.log()})


def _times(guidance: Guidance) -> Tensor:
    """Return the sampler's grid: its levels, and no noise at the end."""
    return torch.cat([guidance.levels, guidance.levels.new_zeros(1)])


def constants(guidance: Guidance) -> dict[str, tuple[ArraySpec, Array]]:
    """Return the arrays that are known from the start."""
    count, (features, known) = guidance.config.trials, guidance.real
    labels = np.repeat(guidance.labels, count)
    arrays = {
        "level": constant(guidance.levels.numpy(), ("level",), "EDM noise level of the sampler"),
        "snapshot_level": constant(
            guidance.levels[path_places(guidance.levels)].numpy(), ("snapshot",), "noise level of a kept D(x)"
        ),
        "label": constant(labels, ("trajectory",), "class of the trajectory"),
        "trial": constant(np.tile(np.arange(count), len(guidance.labels)), ("trajectory",), "trial of its class"),
    }
    if len(features):
        arrays["real_features"] = constant(features, ("real", "feature"), "classifier's features of real images")
        arrays["real_label"] = constant(known, ("real",), "class of the real image, -1 where unknown")
    return arrays


def arrays(guidance: Guidance, conditions: Sequence[Condition]) -> Mapping[str, ArraySpec]:
    """Describe every array that is filled by blocks and conditions."""
    channels, *sides = guidance.model.shape
    space = SPACE[-len(sides) :]
    sizes = {
        "trajectory": len(guidance.labels) * guidance.config.trials,
        "condition": len(conditions),
        "level": len(guidance.levels),
        "snapshot": len(path_places(guidance.levels)),
        "feature": features_of(torch.zeros(1, *guidance.model.shape), guidance.classifier, guidance.device).shape[1],
        "channel": channels,
        **dict(zip(space, sides, strict=True)),
    }
    field, state = f"channel {' '.join(space)}", guidance.config.dtype
    return layout(sizes, {
        "image": (f"condition {field}", state, "sample", "1", "H.4"),
        "path": (f"condition snapshot {field}", state, "D(x) along the way, of first trials alone", "1", "H.9"),
        "features": ("condition feature", "float32", "what the classifier's last layer sees", "1", "classifier"),
        "logit": ("condition", "float64", "logit of the target class", "1", "H.6"),
        "probability": ("condition", "float64", "probability of the target class", "1", "H.6"),
        "predicted": ("condition", "int64", "most probable class", "1", "H.6"),
        "change": ("condition", "float64", "rms difference from the unguided twin", "1", "no classifier"),
        "weight": ("condition level", "float64", "weight w of the guidance", "1", "H.4"),
        "guide_calls": ("condition", "int64", "network calls that were guided", "1", "H.4"),
    })  # fmt: skip
