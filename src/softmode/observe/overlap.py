r"""Overlaps of replicas: how alike the states of one dictionary are that differ in their noise.

Of sign fields s^a, s^b the overlap is $q_{ab} = \frac1N\sum_i s^a_i s^b_i$. Where the model is the same at all sites
its states come in all places and in both signs: the largest |q| over all translations tells whether two are the same.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

# overlap from which on two states count as the same
SAME = 0.5


class Susceptibility(NamedTuple):
    """The spin-glass susceptibility of one realisation.

    Attributes:
        value: Sites.
        stderr: Its standard error, by leaving out one replica at a time; too large by a root of 2 at most, where all
            pairs are uncorrelated.
    """

    value: float
    stderr: float


def overlap(a: Float[Tensor, "batch *space"], b: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    r"""Return $q = \frac1N\sum_i a_i b_i$ of sign fields, in float64.

    Source: edwards1975.
    """
    return (a.double() * b.double()).flatten(1).mean(1)


def largest_overlap(a: Float[Tensor, "batch *space"], b: Float[Tensor, "batch *space"]) -> Float[Tensor, " batch"]:
    r"""Return $\max_r |\frac1N\sum_i a_i b_{i+r}|$ over all translations r and the flip, in float64, by FFT.

    Args:
        a: Sign fields.
        b: Sign fields of the same lattice.

    Source: the overlap of edwards1975, up to the symmetries of a model that is the same at all sites.
    """
    axes = tuple(range(1, a.ndim))
    sites = math.prod(a.shape[1:])
    waves = torch.fft.rfftn(a.double(), dim=axes).conj() * torch.fft.rfftn(b.double(), dim=axes)
    # sums of products of signs are integers
    sums = torch.fft.irfftn(waves, s=a.shape[1:], dim=axes).round()
    return sums.abs().flatten(1).amax(1) / sites


def pair_overlaps(states: Float[Tensor, "replica *space"], translations: bool) -> Float[Tensor, " pair"]:
    """Return |q| of every pair of replicas, in the order (0, 1), (0, 2), ..., (1, 2), ..., in float64.

    Args:
        states: Sign fields.
        translations: Whether to take the largest over all translations.
    """
    compare = largest_overlap if translations else overlap
    rows = [compare(states[i : i + 1].expand_as(states[i + 1 :]), states[i + 1 :]) for i in range(len(states) - 1)]
    return torch.cat(rows).abs()


def spin_glass_susceptibility(states: Float[Tensor, "replica *space"]) -> Susceptibility:
    r"""Return $\chi_{SG} = N\langle q^2\rangle = \frac1N\sum_{ij}\langle s_i s_j\rangle^2$ from pairs of replicas.

    With exact sign symmetry $\langle q\rangle = 0$, so nothing is subtracted. Unbiased: 1 for independent signs, N
    where all states are the same up to the flip. Where all sites are alike it is the correlation area
    $\sum_r C(r)^2$.

    Args:
        states: Sign fields of independent replicas, at least 3.

    Raises:
        ValueError: If there are fewer than 3.

    Source: binder1986.
    """
    count, flat = len(states), states.flatten(1).double()
    if count < 3:
        raise ValueError(f"states: got {count} replicas; expected at least 3")
    sites = flat.shape[1]
    squares = (flat @ flat.T / sites).square().fill_diagonal_(0)
    total, own = squares.sum() / 2, squares.sum(1)
    without = (total - own) / math.comb(count - 1, 2)
    error = ((count - 1) / count * (without - without.mean()).square().sum()).sqrt()
    return Susceptibility(sites * float(total) / math.comb(count, 2), sites * float(error))


def distinct_states(overlaps: Float[Tensor, " pair"], replicas: int, same: float = SAME) -> int:
    """Return how many groups of replicas there are whose members are linked by overlaps above a threshold.

    Args:
        overlaps: |q| of every pair, in the order of `pair_overlaps`.
        replicas: How many there are.
        same: The threshold.
    """
    one, other = torch.triu_indices(replicas, replicas, 1)
    linked = (overlaps > same).numpy()
    graph = coo_array((np.ones(linked.sum()), (one[linked], other[linked])), shape=(replicas, replicas))
    return int(connected_components(graph, directed=False)[0])


def same_spectrum(states: Float[Tensor, "replica *space"], noise: Float[Tensor, "replica *space"]) -> Tensor:
    """Return the signs of fields that have the power of other fields and random phases: their correlations alone.

    Args:
        states: Sign fields.
        noise: Independent normal numbers, which give the phases.

    Source: theiler1992.
    """
    axes = tuple(range(1, states.ndim))
    power, phases = torch.fft.fftn(states.double(), dim=axes).abs(), torch.fft.fftn(noise.double(), dim=axes)
    return torch.fft.ifftn(power * phases / phases.abs(), dim=axes).real.sign()
