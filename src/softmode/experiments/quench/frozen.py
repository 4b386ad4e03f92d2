"""The equilibrium that a quench falls out of: correlations and relaxation under the score at fixed noise levels."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from softmode.estimate import Array
from softmode.exact.patch import PatchDenoiser, TwoStatePatch
from softmode.exact.patch_dynamics import advance, frozen_steps
from softmode.exact.quench import seen
from softmode.experiments.quench.config import Config
from softmode.observe.correlation import autocorrelation, radial_average
from softmode.observe.state import Variable
from softmode.streams import TrajectoryNoise, stream_seed, tag

# distances to the critical level, in those of the levels
FROZEN = (8, 6, 4, 3, 2, 1)
# sites along an axis, at most
SIDE = 128
# length of a step, steps of a sample, and how long the score is frozen before and while it is measured (sigma^2)
STEP, EVERY, BEFORE, DURING = 0.2, 2, 60.0, 240.0
# longest lag of the mean's autocorrelation, and distance of two states whose correlations are averaged, in samples
LAGS, APART = 100, 50


class FrozenVariables(NamedTuple):
    """What is measured where the score is frozen, and how long its dimensions are."""

    variables: Mapping[str, Variable]
    sizes: Mapping[str, int]


def frozen_variables(levels: Array, size: int) -> FrozenVariables:
    """Return the description of what `relax` returns; nothing where there are no levels."""
    if not len(levels):
        return FrozenVariables({}, {})
    side = min(size, SIDE)
    return FrozenVariables(
        {
            "frozen_correlation": Variable(("frozen", "frozen_distance"), "C(r) of x at equilibrium", "1", "Sec. 5"),
            "memory": Variable(("frozen", "lag"), "autocovariance of the mean of x at equilibrium", "1", "Sec. 5"),
        },
        {"frozen": len(levels), "frozen_distance": side // 2 + 1, "lag": LAGS + 1},
    )


def relax(
    model: TwoStatePatch | PatchDenoiser, levels: Array, config: Config, trajectories: range, device: torch.device,
    tick: Callable[[], None],
) -> dict[str, Array]:  # fmt: skip
    """Return correlations and the autocovariance of the mean under frozen scores, each begun where the last one ends.

    Args:
        model: A patch model.
        levels: Falling noise levels.
        config: Gives seed and lattice.
        trajectories: Which ones.
        device: Device of the states.
        tick: Called after each level.
    """
    if not len(levels):
        return {}
    shape = (min(config.size, SIDE),) * config.dimensions
    keys = torch.tensor([stream_seed(config.seed, i, tag("quench frozen")) for i in trajectories])
    noise = TrajectoryNoise(config.seed, trajectories, device, (tag("quench frozen start"),))
    x = noise.fill_(torch.empty(len(trajectories), 1, *shape, dtype=getattr(torch, config.dtype), device=device))
    x *= float(levels[0])
    before, samples = round(BEFORE / STEP), round(DURING / STEP) // EVERY
    correlations, memories, first = [], [], 0
    for level in levels.tolist():
        x = advance(model, x, frozen_steps(level, STEP, before), keys, first)
        first += before
        own, means, steps = [], [], frozen_steps(level, STEP, EVERY)
        for place in range(samples):
            if place % APART == 0:
                y = advance(model, x, seen(steps), keys, first)
                own.append(radial_average(autocorrelation(y)).double())
            means.append(x.flatten(1).double().mean(1))
            x = advance(model, x, steps, keys, first)
            first += EVERY
        correlations.append(torch.stack(own).mean(0))
        mean = torch.stack(means, 1)
        lagged = [(mean[:, : samples - lag] * mean[:, lag:]).mean(1) for lag in range(LAGS + 1)]
        memories.append(torch.stack(lagged, 1))
        tick()
    found = {"frozen_correlation": correlations, "memory": memories}
    return {name: np.asarray(torch.stack(values, 1).cpu()) for name, values in found.items()}
