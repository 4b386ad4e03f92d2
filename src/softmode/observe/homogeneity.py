"""Are states periodic, and alike at all sites, as Fourier modes take them to be? A test that is exact for any law."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from softmode.estimate import Array
from softmode.observe.correlation import scalar_fields

# random shifts of every state, and states that are shifted at most
SHIFTS, STATES = 4999, 32
# p below which something is no chance
SURE = 5e-4


class Seam(NamedTuple):
    """What neighbours along one axis are like.

    Attributes:
        border: Probability of a border as different from the mean, in states whose law no shift changes; NaN where it
            cannot be small.
        places: The same of places that differ as much from each other.
        across: Mean squared difference of neighbours across the border, in units of that inside.
        highest: Highest of those at one place inside, in the same units.
    """

    border: float
    places: float
    across: float
    highest: float


def neighbours(x: Float[Tensor, "batch channel *space"], axis: int) -> Float[Tensor, "batch side"]:
    """Return the mean squared difference of neighbours along an axis, by place; the last is across the border.

    Args:
        x: States.
        axis: Axis of space, from 0 on.
    """
    fields, along = scalar_fields(x.double()), 2 + axis
    squares = (fields - fields.roll(-1, along)).square()
    return squares.mean([a for a in range(1, fields.ndim) if a != along])


def seam(x: Float[Tensor, "batch channel *space"], axis: int) -> Seam:
    r"""Test whether the law of some states is unchanged by shifts along an axis, border included.

    With $e_{ji}$, the mean squared difference of neighbours at place i in state j, the statistics are how far
    $\bar e_i = \frac1n\sum_j e_{ji}$ is from its mean at the border, and its spread over i. A law that shifts leave as
    it is, as on a periodic lattice, is also that of the same states each shifted by a distance of its own, so p is the
    share of random shifts with as much: exact whatever the law is. A crop has a jump at its border in every state,
    and images with margins have none there.

    Args:
        x: Independent states.
        axis: Axis of space, from 0 on.
    """
    energies = neighbours(x[:STATES], axis).numpy()
    count, side = energies.shape
    inside = max(float(energies[:, :-1].mean()), np.finfo(float).tiny)
    told = float(energies[:, -1].mean()) / inside, float(energies[:, :-1].mean(0).max()) / inside
    # so few shifts in all that none is rare
    if side ** (count - 1) * SURE < 1:
        return Seam(np.nan, np.nan, *told)
    rng, index, total = np.random.default_rng(0), np.arange(side), np.zeros((SHIFTS, side))
    for state in energies:
        total += state[(index + rng.integers(side, size=(SHIFTS, 1))) % side]
    found, mean = energies.sum(0), float(energies.sum()) / side

    def p(shifted: Array, own: float) -> float:
        # sums in another order are equal up to rounding
        return float((1 + (shifted >= own * (1 - 1e-9)).sum()) / (1 + SHIFTS))

    return Seam(
        p(np.abs(total[:, -1] - mean), abs(float(found[-1]) - mean)), p(total.var(1), float(found.var())), *told
    )
