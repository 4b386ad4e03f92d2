"""Whether a realisation is ordered, and how, by the peak of its structure factor under the frozen score."""

import numpy as np
from jaxtyping import Bool, Float

from softmode.estimate import Array
from softmode.experiments.dictionary.states import longest_wave
from softmode.lattice import ReceptiveField

# share of the power in one wave, on the largest lattice, from which on states are called ordered
ORDERED = 0.05
# waiting time (relaxation times) before which no state is called frustrated: order takes time to spread
LEAST_WAIT = 20.0
VERDICTS = ("uniform", "modulated", "frustrated", "undecided")
UNIFORM, MODULATED, FRUSTRATED, UNDECIDED = range(len(VERDICTS))


def verdicts(
    height: tuple[Float[Array, "*shape"], Float[Array, "*shape"]],
    area: tuple[Float[Array, "*shape"], Float[Array, "*shape"]],
    k: Float[Array, "*shape d"],
    field: ReceptiveField,
) -> Array:
    """Return the index of the verdict on the states of each realisation, among VERDICTS.

    Ordered is what holds more than ORDERED of its power in one wave by two standard errors: uniform if that wave is
    longer than two patches, modulated otherwise. Frustrated is what holds less in any wave and is ordered over less
    than a patch, both by two standard errors. Undecided are all the rest.

    Args:
        height: S(k)/N of the peak, and its standard error over replicas.
        area: N <q^2>, and its standard error over replicas (sites).
        k: Where the peak is, radians per site.
        field: Receptive field.
    """
    ordered = height[0] - 2 * height[1] > ORDERED
    uniform = np.linalg.norm(k, axis=-1) <= longest_wave(field)
    within_a_patch = (area[0] + 2 * area[1] < field.size) & (height[0] + 2 * height[1] < ORDERED)
    without = np.where(within_a_patch, FRUSTRATED, UNDECIDED)
    return np.where(ordered, np.where(uniform, UNIFORM, MODULATED), without)


def near(k: Float[Array, "*shape d"], other: Float[Array, "*shape d"], within: float) -> Bool[Array, "*shape"]:
    """Return whether two waves are the same up to their sign, the lattice's own and a distance (radians per site)."""

    def distance(difference: Array) -> Array:
        return np.asarray(np.linalg.norm(np.mod(difference + np.pi, 2 * np.pi) - np.pi, axis=-1))

    return np.asarray(np.minimum(distance(k - other), distance(k + other)) <= within)
