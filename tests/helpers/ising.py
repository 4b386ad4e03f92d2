"""Ising models on a periodic square, of nearest or of more neighbours, sampled by Wolff's clusters (wolff1989)."""

from collections.abc import Sequence

import numpy as np
from numba import njit

from softmode.finite_size.moments import Moments

CRITICAL = 2 / np.log(1 + np.sqrt(2))
NEAREST = ((1, 0), (-1, 0), (0, 1), (0, -1))


@njit
def _sample(side, temperature, units, measurements, clusters, seed, neighbours):
    np.random.seed(seed)  # noqa: NPY002, numba's own generator
    add = 1 - np.exp(-2 / temperature)
    spins = np.ones((side, side), np.int8)
    rows, columns = np.full(side, side, np.int64), np.full(side, side, np.int64)
    cosine, sine = np.cos(2 * np.pi * np.arange(side) / side), np.sin(2 * np.pi * np.arange(side) / side)
    stack = np.empty((side * side, 2), np.int32)
    means = np.zeros((units, 4))
    sites = side * side
    for unit in range(-2, units):
        for _ in range(measurements):
            for _ in range(clusters):
                i, j = np.random.randint(side), np.random.randint(side)  # noqa: NPY002
                old = spins[i, j]
                spins[i, j] = -old
                stack[0, 0], stack[0, 1], top = i, j, 1
                rows[i] -= 2 * old
                columns[j] -= 2 * old
                while top:
                    top -= 1
                    i, j = stack[top, 0], stack[top, 1]
                    for way in range(len(neighbours)):
                        a, b = (i + neighbours[way, 0]) % side, (j + neighbours[way, 1]) % side
                        if spins[a, b] == old and np.random.random() < add:  # noqa: NPY002
                            spins[a, b] = -old
                            rows[a] -= 2 * old
                            columns[b] -= 2 * old
                            stack[top, 0], stack[top, 1] = a, b
                            top += 1
            if unit < 0:
                continue
            m = rows.sum() / sites
            waves = 0.0
            for profile in (rows, columns):
                waves += (profile * cosine).sum() ** 2 + (profile * sine).sum() ** 2
            means[unit, 0] += abs(m)
            means[unit, 1] += m**2
            means[unit, 2] += m**4
            means[unit, 3] += waves / (2 * sites)
    return means / measurements


def box(side: int) -> tuple[tuple[int, int], ...]:
    """Return all neighbours in a box of odd side around a site."""
    reach = range(-(side // 2), side // 2 + 1)
    return tuple((i, j) for i in reach for j in reach if i or j)


def ising(
    side: int,
    temperature: float,
    units: int,
    measurements: int,
    clusters: int,
    seed: int = 0,
    neighbours: Sequence[tuple[int, int]] = NEAREST,
) -> Moments:
    """Return moments of the Ising model, after as many measurements as two units have.

    Args:
        side: L.
        temperature: T, in units of the coupling.
        units: Blocks, the units of errors.
        measurements: Measurements of a block.
        clusters: Wolff clusters from one measurement to the next.
        seed: Seed.
        neighbours: Where those are that a spin is coupled to, all alike (luijten1996).
    """
    own = int(np.random.SeedSequence([seed, side, int(1e6 * temperature)]).generate_state(1)[0])
    return Moments(
        side, 2, temperature, _sample(side, temperature, units, measurements, clusters, own, np.array(neighbours))
    )
