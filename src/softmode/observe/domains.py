"""How far sites are correlated, and how large domains are: from correlation functions and from domain walls."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import j0
from torch import Tensor

from softmode.estimate import Array
from softmode.lattice import Lattice

# highest wavenumber of a fit, the length that it begins with, and how often its weights are set anew
HIGHEST, START, ROUNDS = 2.0, 2.0, 40


def unlike_neighbours(x: Float[Tensor, "batch 1 *space"]) -> Float[Tensor, " batch"]:
    """Return the density of defects: the share of pairs of neighbouring sites whose signs are not the same, float64.

    Pairs along all axes, with periodic boundaries; 0 is positive. Independent signs have 1/2.
    """
    negative = x < 0
    axes = range(2, x.ndim)
    shares = [(negative ^ negative.roll(1, axis)).flatten(1).double().mean(1) for axis in axes]
    total: Tensor = sum(shares[1:], shares[0])
    return total / len(shares)


def wall_spacing(density: Array, dimensions: int) -> Array:
    r"""Return the sites per unit of domain wall, $1/(d\,\rho)$ with $\rho$ the density of defects (sites).

    Stripes of width w have w; infinite where there is no wall.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(1 / (dimensions * density))


def correlation_length(correlation: Float[Array, "*batch distance"], shape: tuple[int, ...]) -> Array:
    r"""Return the second-moment correlation length $\xi$ of $1/S(k) = a\,(1 + \xi^2 k^2)$, fitted to the long waves.

    $S(k) = \sum_r C(r)\,e^{ikr}$, of the isotropic C, over the waves of the lattice up to |k| = 2. Each has as weight
    the number of its modes, $S(k)^2$ for its error, and $e^{-k^2\xi^2}$, so that the same waves count in units of the
    length, whatever that is. Distances are rounded to integers, which adds some 0.05 sites.

    Args:
        correlation: C at r = 0, 1, ..., averaged over the sites of each integer distance.
        shape: Sides of the lattice, all the same.

    Returns:
        [*batch] (sites); NaN where 1/S(k) has no such form, as in domains with sharp walls, whose S falls faster.

    Source: cooper1982; Ornstein and Zernike's form is that of the Ginzburg-Landau theory, paper Sec. 6.1.
    """
    dimensions = len(shape)
    lowest = Lattice(shape).k_min[0]
    k = lowest * np.arange(1, 1 + int(HIGHEST / lowest))
    square = k**2
    length = np.full(correlation.shape[:-1], START)
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = 1 / (correlation @ _waves(shape, correlation.shape[-1], k))
        for _ in range(ROUNDS):
            weight = k ** (dimensions - 1) / inverse**2 * np.exp(-square * np.square(length)[..., None])
            weight /= weight.sum(-1, keepdims=True)
            centred = square - (weight @ square)[..., None]
            slope = (weight * centred * inverse).sum(-1) / (weight * centred**2).sum(-1)
            height = (weight * inverse).sum(-1) - slope * (weight @ square)
            length = (length + np.sqrt(slope / height)) / 2
    return np.asarray(length)


@lru_cache(maxsize=16)
def _rings(shape: tuple[int, ...], distances: int) -> tuple[Array, Array]:
    """Return the number of sites at each integer distance, and the root of their mean squared distance."""
    lattice = Lattice(shape)
    bins, squares = lattice.radial_bins().flatten().numpy(), lattice.distances().square().flatten().numpy()
    counts = np.bincount(bins, minlength=distances)[:distances]
    return counts, np.sqrt(np.bincount(bins, squares, distances)[:distances] / counts)


def _waves(shape: tuple[int, ...], distances: int, k: Array) -> Array:
    """Return the sum of a wave over the sites of each integer distance, averaged over its directions, [distance, k]."""
    counts, roots = _rings(shape, distances)
    phase = np.outer(roots, k)
    wave = {1: np.cos, 2: j0, 3: lambda x: np.sinc(x / math.pi)}[len(shape)](phase)
    return np.asarray(counts[:, None] * wave)


def decay_length(correlation: Float[Array, "*batch distance"]) -> Array:
    """Return the distance at which C has fallen to 1/e of C(0), by linear interpolation (sites).

    Returns:
        [*batch]; NaN where it never does.
    """
    share = correlation / correlation[..., :1]
    below = share < math.exp(-1)
    place = np.maximum(below.argmax(-1), 1)[..., None]
    before, after = (np.take_along_axis(share, where, -1)[..., 0] for where in (place - 1, place))
    with np.errstate(invalid="ignore", divide="ignore"):
        length = place[..., 0] - 1 + (before - math.exp(-1)) / (before - after)
    return np.asarray(np.where(below.any(-1), length, np.nan))
