r"""Where the patch models of Supp. B go soft: a patch by itself, and the lattice at its softest wave.

A patch is unstable along the top eigenvector of its covariance C (Eq. 43). The score of a lattice reads the centre of
the patch at every site: a convolution with the row $C_{0u}$, which is soft first at the wave $k^*$ with the largest
$\mathrm{Re}\,\hat C_0(k)$. That is at less noise, and for random patterns seldom at k = 0.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq, minimize

from softmode.estimate import Array
from softmode.exact.dictionary import PatchDictionary
from softmode.formulas import bifurcation
from softmode.formulas.patches import covariance_at, symmetric
from softmode.lattice import Lattice
from softmode.process import Process

# wave vectors along an axis among which the softest is looked for, and how many of the best are followed uphill
GRID, FOLLOWED = 64, 8
# noise levels at which a crossing is looked for where C depends on the level, and the lowest, of the highest
LEVELS, LOWEST = 100, 1e-2


class SoftestWave(NamedTuple):
    r"""The wave that goes soft first on the lattice.

    Args:
        k: Wave vector $k^*$, radians per site, in $(-\pi, \pi]$; of the pair $\pm k^*$ the one whose first
            component that is not 0 is positive.
        strength: $\max_k \mathrm{Re}\,\hat C_0(k)$, which takes the place of |Omega|.
        drift: $\mathrm{Im}/\mathrm{Re}$ of $\hat C_0(k^*)$: by how much the wave moves while it grows.
    """

    k: tuple[float, ...]
    strength: float
    drift: float


def patch_critical_time(process: Process, dictionary: PatchDictionary) -> float:
    r"""Return the time at which a patch by itself goes unstable, $\sigma^2 = \alpha^2\lambda_{\max}(C)$.

    Args:
        process: Any process.
        dictionary: Patterns with exact Z2 symmetry.

    Returns:
        Time in the process's own unit; NaN beyond the end of a custom schedule.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric.

    Source: paper Eqs. 42 and 43.
    """

    def strength(level: float) -> float:
        return float(torch.linalg.eigvalsh(covariance_at(torch.tensor(level, dtype=torch.float64), dictionary))[-1])

    return _soft_time(process, strength, symmetric(dictionary))


def lattice_critical_time(process: Process, dictionary: PatchDictionary, shape: Sequence[int] = ()) -> float:
    r"""Return the time at which the first wave of the lattice goes soft.

    $\sigma^2 = \alpha^2\max_k\mathrm{Re}\,\hat C_0(k)$.

    Args:
        process: Any process.
        dictionary: Patterns with exact Z2 symmetry.
        shape: Sides of a periodic lattice, whose waves alone count; an infinite one when left out.

    Returns:
        Time in the process's own unit; NaN where no wave ever does, or beyond the end of a custom schedule.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric.

    Source: paper Eq. 7 at x = 0, where Eqs. 18 and 43 look at one wave or one patch.
    """

    def strength(level: float) -> float:
        return _softest(dictionary, level, shape).strength

    return _soft_time(process, strength, symmetric(dictionary))


def softest_wave(dictionary: PatchDictionary, level: float = math.inf, shape: Sequence[int] = ()) -> SoftestWave:
    r"""Return the wave whose gain at x = 0, $\mathrm{Re}\,\hat C_0(k)\,\alpha^2/\sigma^2$, is the largest.

    Args:
        dictionary: Patterns with exact Z2 symmetry.
        level: Noise level sigma/alpha; it matters only where patterns have unequal norms.
        shape: Sides of a periodic lattice, whose waves alone count; an infinite one when left out.

    Raises:
        ValueError: If the dictionary is not Z2 symmetric.

    Source: paper Eq. 7 with the centre row of Eq. 30.
    """
    return _softest(symmetric(dictionary), level, shape)


def has_equal_norms(dictionary: PatchDictionary) -> bool:
    """Tell whether all patterns have the same norm, so that C depends on no noise level."""
    norms = dictionary.patterns.square().sum(1)
    return torch.allclose(norms, norms[0], rtol=1e-12, atol=0)


def edge(patterns: int, size: int) -> float:
    r"""Return the upper edge of the spectrum of C for many random patterns on many sites, $(1 + \sqrt{|\Omega|/M})^2$.

    Args:
        patterns: M.
        size: |Omega|.

    Raises:
        ValueError: If either is less than 1.

    Source: the law of Marchenko and Pastur for paper Eq. 41; marchenko1967.
    """
    if patterns < 1 or size < 1:
        raise ValueError(f"patterns: got {patterns} on {size} sites; expected at least 1 of each")
    return (1 + math.sqrt(size / patterns)) ** 2


def _softest(dictionary: PatchDictionary, level: float, shape: Sequence[int]) -> SoftestWave:
    field = dictionary.receptive_field
    row = covariance_at(torch.tensor(level, dtype=torch.float64), dictionary)[field.centre]
    offsets, weights = field.tensor().long().numpy(), row.numpy()
    sides = tuple(shape) or tuple(max(GRID, 4 * extent) for extent in field.extent)
    kernel = np.zeros(sides)
    np.add.at(kernel, tuple((offsets % sides).T), weights)
    values = np.fft.fftn(kernel).real
    order = np.argsort(-values, axis=None)[: FOLLOWED if not shape else 1]
    starts = Lattice(sides).wave_vectors().flatten(0, -2).numpy()[order]
    best = starts[0]
    if not shape:

        def minus(k: Array) -> tuple[float, Array]:
            phases = offsets @ k
            return -float(weights @ np.cos(phases)), (weights * np.sin(phases)) @ offsets

        tried = [minimize(minus, start, jac=True, method="BFGS", options={"gtol": 1e-12}) for start in starts]
        best = min(tried, key=lambda each: float(each.fun)).x
    best = _folded(best)
    at = complex(field.transform(torch.tensor(best), row))
    # a wave that is its own opposite stands still
    still = abs(at.imag) <= 1e-12 * abs(at.real)
    return SoftestWave(tuple(best.tolist()), at.real, 0.0 if still else at.imag / at.real)


def _folded(k: Array) -> Array:
    """Return a wave vector in (-pi, pi], of a pair of opposite ones always the same."""
    k = np.round(np.pi - np.mod(np.pi - k, 2 * np.pi), 9) + 0.0
    k = np.where(np.abs(np.abs(k) - np.pi) < 1e-6, np.pi, np.where(np.abs(k) < 1e-6, 0.0, k))
    leading = next((float(c) for c in k if c not in (0.0, np.pi)), 1.0)
    return np.where(np.isin(k, (0.0, np.pi)), k, math.copysign(1, leading) * k)


def _soft_time(process: Process, strength: Callable[[float], float], dictionary: PatchDictionary) -> float:
    """Return the time of the highest noise level whose square is the strength there."""
    if has_equal_norms(dictionary):
        square = strength(math.inf)
    else:
        norms = dictionary.patterns.square().sum(1)
        highest = float((dictionary.centre.abs() * dictionary.patterns.abs().sum(1)).max().maximum(norms.max())) ** 0.5
        levels = np.geomspace(1.01 * highest, LOWEST * highest, LEVELS)

        def excess(level: float) -> float:
            return strength(level) / level**2 - 1

        below = next((i for i, level in enumerate(levels) if excess(level) >= 0), None)
        square = 0.0 if below is None else brentq(excess, levels[below], levels[below - 1]) ** 2
    return bifurcation.critical_time(process, square) if square > 0 else math.nan
