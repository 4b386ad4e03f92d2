r"""How much of a correlation length a finite box shows: the second-moment length of G.3 by exact expectations.

The field is Gaussian with Ornstein and Zernike's spectrum on the lattice,
$S(k) = 1/(\xi^{-2} + \sum_a 4\sin^2(k_a/2))$. On a periodic box the connected correlation, that of the field minus its
mean over sites, has the expectation

$$ \mathrm E\,C(r) = \frac1N \sum_{k \ne 0} S(k)\,e^{ikr}. $$

A crop of sides L_a of a field without end is wrapped around as if it were periodic: along each axis a share r/L of the
pairs lies across its border, at the distance L - r,

$$ \mathrm E\,C(r) = \prod_a \Big[\big(1 - \tfrac{r_a}{L_a}\big)\,C_\infty(r_a)
    + \tfrac{r_a}{L_a}\,C_\infty(L_a - r_a)\Big] - \text{its mean over } r, $$

where each factor acts on its own axis. The length is that of these expectations, up to their first zero. In a square of
L sites it ends at 0.09 L, whatever xi is, and

| L/xi (xi = 4 sites) | 2 | 4 | 6 | 8 | 12 | 16 | 24 | 48 |
|---|---|---|---|---|---|---|---|---|
| length in a periodic box, in units of xi | 0.14 | 0.30 | 0.42 | 0.51 | 0.63 | 0.69 | 0.76 | 0.84 |
| the same in a crop | 0.14 | 0.29 | 0.39 | 0.47 | 0.58 | 0.65 | 0.73 | 0.82 |
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.lattice import Lattice
from softmode.observe.correlation import radial_average, second_moment_length

# a crop is one of a periodic field of so many of its own sides, or of xi
AROUND, LENGTHS = 4, 16
# sites of that field at most
MOST = 2**22
# lengths, in units of the shortest side, among which that of a field is looked for, and how many halvings find it
SHORTEST, LONGEST, HALVINGS = 0.01, 100.0, 30
# share of what the longest one shows above which any is as good
SATURATED = 0.97


def oz_correlation(shape: Sequence[int], xi: float) -> Float[Tensor, "*space"]:
    """Return C(r) of Ornstein and Zernike's spectrum on a periodic lattice, for every lattice vector r.

    Args:
        shape: Sides of the lattice (sites).
        xi: Correlation length (sites).
    """
    k = Lattice(tuple(shape)).wave_vectors()
    spectrum = xi**-2 + 4 * (k / 2).sin().square().sum(-1)
    correlation: Tensor = torch.fft.ifftn(1 / spectrum).real
    return correlation


def connected_in_box(shape: Sequence[int], xi: float, periodic: bool = True) -> Float[Tensor, "*space"]:
    """Return the expectation of the connected correlation that a box measures, for every lattice vector r.

    Args:
        shape: Sides of the box (sites).
        xi: Correlation length of the field (sites).
        periodic: Whether the field is periodic there; else it is a crop of one without end.
    """
    if periodic:
        correlation = oz_correlation(shape, xi)
        return correlation - correlation.mean()
    room = MOST ** (1 / len(shape))
    around = [max(AROUND * side, min(int(LENGTHS * xi), int(room))) for side in shape]
    correlation = oz_correlation(around, xi)
    for axis, side in enumerate(shape):
        r = torch.arange(side)
        share = (r.double() / side).reshape(-1, *[1] * (len(shape) - axis - 1))
        inside, across = correlation.index_select(axis, r), correlation.index_select(axis, side - r)
        correlation = (1 - share) * inside + share * across
    return correlation - correlation.mean()


@lru_cache(maxsize=512)
def length_in_box(shape: tuple[int, ...], xi: float, periodic: bool = True) -> float:
    """Return the second-moment length (sites) that a box shows of a field; the arguments are those of connected_in_box.

    Source: paper G.3, of the expected correlations.
    """
    length = float(second_moment_length(radial_average(connected_in_box(shape, xi, periodic)[None]))[0])
    return 0.0 if math.isnan(length) else length


def length_of_field(measured: float, shape: tuple[int, ...], periodic: bool = True) -> float:
    """Return the correlation length (sites) of the field of which a box shows a length; infinite where any long one is.

    Args:
        measured: The second-moment length that was measured (sites).
        shape: Sides of the box (sites).
        periodic: Whether the field is periodic there.
    """
    side = min(shape)
    low, high = SHORTEST * side, LONGEST * side
    if measured >= SATURATED * length_in_box(shape, high, periodic):
        return math.inf
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if length_in_box(shape, middle, periodic) < measured else (low, middle)
    return math.sqrt(low * high)
