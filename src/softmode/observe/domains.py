"""How large domains are: lengths of correlation functions without a window of one's own, and of domain walls."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from torch import Tensor

from softmode.estimate import Array
from softmode.lattice import Lattice

# how many of its own lengths a correlation function is summed over, as autocorrelation times are
WINDOW = 6.0


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


def windowed_length(correlation: Float[Array, "*batch distance"], shape: tuple[int, ...], least: int) -> Array:
    r"""Return the second-moment correlation length, $\xi^2 = \sum_r r^2 C(r)\,/\,2d\sum_r C(r)$, over a window (sites).

    The sums go over all lattice vectors up to the first distance that is at least `least` and six lengths: beyond, C is
    noise, which the weight r^2 and the number of sites there magnify. Of $e^{-r/\xi}$ in two dimensions that leaves out
    7 % of the length, in the same way at every length.

    Args:
        correlation: C at r = 0, 1, ..., averaged over the sites of each integer distance.
        shape: Sides of the lattice.
        least: Distance within which the model itself correlates sites, that none is cut off there.

    Returns:
        [*batch]; NaN where half the lattice has no such window, or no positive sum.

    Source: cooper1982; the window is that of sokal1997 for autocorrelation times.
    """
    distances = np.arange(correlation.shape[-1])
    counts, squares = _rings(shape, len(distances))
    with np.errstate(invalid="ignore", divide="ignore"):
        moments = np.cumsum(correlation * squares, -1) / np.cumsum(correlation * counts, -1)
        lengths = np.sqrt(moments / (2 * len(shape)))
        enough = (distances >= WINDOW * lengths) & (distances >= least)
    first = enough.argmax(-1)[..., None]
    found = np.take_along_axis(lengths, first, -1)[..., 0]
    return np.asarray(np.where(enough.any(-1), found, np.nan))


@lru_cache(maxsize=16)
def _rings(shape: tuple[int, ...], distances: int) -> tuple[Array, Array]:
    """Return the number of sites at each integer distance, and the sum of their squared distances."""
    lattice = Lattice(shape)
    bins, squares = lattice.radial_bins().flatten().numpy(), lattice.distances().square().flatten().numpy()
    return np.bincount(bins, minlength=distances)[:distances], np.bincount(bins, squares, distances)[:distances]


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
