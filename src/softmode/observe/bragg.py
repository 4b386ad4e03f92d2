r"""Where the power of states is, and how much of it stands in one wave: order that is uniform, modulated or neither.

With long-range order one wave k holds a finite share of the power, $S(k)/N$ of order one for any lattice, where
$S(k) = |\hat s_k|^2/N$; without, S(k) is finite and the share falls like 1/N.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.lattice import Lattice


class Bragg(NamedTuple):
    """The highest peak of the structure factor of some states.

    Attributes:
        height: Its share of the power, S(k)/N.
        stderr: Standard error over states.
        k: Where it is, radians per site; of a pair of opposite waves either.
    """

    height: float
    stderr: float
    k: tuple[float, ...]


def structure_factors(states: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
    r"""Return $S(k) = |\hat s_k|^2/N$ of every wave, in the order of `torch.fft.fftn`, in float64."""
    waves = torch.fft.fftn(states.double(), dim=tuple(range(1, states.ndim)), norm="ortho")
    return waves.real.square() + waves.imag.square()


def bragg_peak(states: Float[Tensor, "batch *space"]) -> Bragg:
    """Return the highest peak of the mean structure factor.

    The largest of many noisy values is too large: the height is that of each half of the states at the wave that the
    other half has chosen. Independent signs give 1/N.

    Args:
        states: Fields of independent states, at least 2.

    Raises:
        ValueError: If there are fewer than 2.
    """
    if len(states) < 2:
        raise ValueError(f"states: got {len(states)}; expected at least 2")
    shape = tuple(states.shape[1:])
    factors = structure_factors(states).flatten(1)
    halves = [factors[half::2, int(factors[1 - half :: 2].mean(0).argmax())] for half in (0, 1)]
    heights = torch.cat(halves) / math.prod(shape)
    highest = int(factors.mean(0).argmax())
    k = Lattice(shape).wave_vectors().flatten(0, -2)[highest]
    return Bragg(float(heights.mean()), float(heights.std()) / math.sqrt(len(heights)), tuple(k.tolist()))


def long_wave_power(states: Float[Tensor, "batch *space"], largest: float) -> float:
    """Return the share of the power of all states in waves with |k| up to the largest (radians per site)."""
    power = structure_factors(states).mean(0)
    k = Lattice(tuple(states.shape[1:])).wave_vectors().square().sum(-1).sqrt()
    return float(power[k <= largest].sum() / power.sum())
