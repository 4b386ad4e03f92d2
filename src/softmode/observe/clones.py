"""How far the final states of copied trajectories agree."""

from collections.abc import Callable
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
