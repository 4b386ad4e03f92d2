"""Clones: copies of trajectories, run on with noise of their own, and how far their final states agree."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.process import Process
from softmode.simulate import simulate
from softmode.streams import TrajectoryNoise


class Clones(NamedTuple):
    """Final states of trajectories and of their copies.

    Attributes:
        parent: Final states of the trajectories, [trajectory, channel, *space].
        copies: Final states of their copies, [trajectory, start, copy, channel, *space].
    """

    parent: Tensor
    copies: Tensor


def clone(
    denoiser: Denoiser,
    process: Process,
    x: Float[Tensor, "trajectory channel *space"],
    times: Float[Tensor, " time"],
    noise: TrajectoryNoise,
    starts: Sequence[int],
    copies: int,
    noise_of_copy: Callable[[int, int], TrajectoryNoise],
    on_step: Callable[[], None] = lambda: None,
) -> Clones:
    """Run trajectories down a time grid, copy each at some of its times, and run every copy on to the end.

    Args:
        denoiser: Denoiser in EDM coordinates.
        process: Process in whose coordinates x lives.
        x: States at times[0]; left as they are.
        times: Falling times, float64.
        noise: Random numbers of the trajectories themselves.
        starts: Grid indices at which to copy.
        copies: Copies of each trajectory at each of these times, at least 1.
        noise_of_copy: Maps (grid index, number of the copy) to the random numbers of those copies, in the order of x.
        on_step: Called after each step, for a progress bar.

    Returns:
        Final states of the trajectories and of the copies, on the CPU.

    Raises:
        NonFiniteStateError: At the first state that is NaN or infinite.
        ValueError: If a start is not one of the grid's indices.

    Source: biroli2024.
    """
    parent = simulate(denoiser, process, x, times, noise, snapshots_at=starts, on_step=on_step)
    places = {k: place for place, k in enumerate(sorted(set(starts)))}
    final = [
        simulate(
            denoiser, process, parent.snapshots[:, places[k]].to(x.device), times[k:], noise_of_copy(k, c),
            on_step=on_step,
        ).state
        for k in starts
        for c in range(copies)
    ]  # fmt: skip
    return Clones(parent.state, torch.stack(final, 1).unflatten(1, (len(starts), copies)))


def sign_agreement(
    a: Float[Tensor, "batch channel *space"], b: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, " batch"]:
    r"""Return the share of sites and channels at which two states have the same sign, [batch] in float64.

    $(1 + q)/2$ with the overlap $q = \frac1N\sum_i\mathrm{sign}(a_i)\,\mathrm{sign}(b_i)$; an exact zero counts half.
    """
    return (1 + (a.sign() * b.sign()).flatten(1).double().mean(1)) / 2


def class_agreement(a: Int[Tensor, " batch"], b: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return 1 where two states have the same class and 0 where they do not, [batch] in float64."""
    return (a == b).double()


def over_pairs(
    agreement: Callable[[Tensor, Tensor], Tensor],
    parent: Tensor,
    copies: Tensor,
) -> Float[Tensor, "trajectory start"]:
    """Return an agreement's mean over all pairs of a trajectory and its copies, for every time at which it was copied.

    Args:
        agreement: Maps two batches [trajectory, ...] to numbers [trajectory].
        parent: States or classes of the trajectories, [trajectory, ...].
        copies: Those of the copies, [trajectory, start, copy, ...].
    """
    columns = []
    for at_start in copies.unbind(1):
        pairs = combinations([parent, *at_start.unbind(1)], 2)
        columns.append(torch.stack([agreement(a, b) for a, b in pairs]).mean(0))
    return torch.stack(columns, 1)
