"""Replicas of one lattice at one noise level: their order parameter at all times, their entropy production at some."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softmode.estimate import Array
from softmode.exact.patch_balance import entropy_production, irreciprocity
from softmode.exact.patch_dynamics import PatchModel, Steps, follow

# sites whose entropy production is computed at once
TOGETHER = 2**16


class Followed(NamedTuple):
    """What was seen of replicas.

    Attributes:
        series: m and S(k_min) after each round of steps, [replica, time, 2].
        last: Last states.
        production: Entropy production of the state at the end of each block, [replica, block].
        irreciprocity: That of the last states, [replica].
    """

    series: Array
    last: Tensor
    production: Array
    irreciprocity: Array


def followed(
    model: PatchModel, x: Float[Tensor, "replica 1 *space"], steps: Steps, cut: int, blocks: tuple[int, int],
    keys: Tensor, generator: torch.Generator,
) -> Followed:  # fmt: skip
    """Take replicas through the same steps again and again.

    Args:
        model: A patch model.
        x: First states.
        steps: What one round of steps does, at one noise level.
        cut: Rounds before the first block.
        blocks: How many blocks, and the rounds of each.
        keys: Seed of each replica's stream.
        generator: Gives the kicks with which states are seen.
    """
    series, states, taken = [], [], 0
    count, length = blocks
    for block in range(count):
        rounds = length if block else cut + length
        x, part = follow(model, x, steps, rounds, keys, taken, "three-point")
        taken += rounds * len(steps)
        series.append(part)
        states.append(x)
    level, seen = float(steps.sigma[0]), torch.cat(states)
    # a state is seen with the kick that its next step begins with; any kick of its law will do
    seen += float(steps.before[0]) * torch.randn(seen.shape, generator=generator, dtype=seen.dtype).to(seen.device)
    each = max(1, TOGETHER // seen[0].numel())
    production = torch.cat([entropy_production(model, part, level) for part in seen.split(each)])
    share = torch.cat([irreciprocity(model, part, level) for part in seen[-len(x) :].split(each)])
    return Followed(
        np.concatenate(series, 1), x.cpu(), production.reshape(count, len(x)).T.cpu().numpy(), share.cpu().numpy()
    )
