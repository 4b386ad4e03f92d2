"""Whether a realisation is ordered, and how, by the peak of its structure factor under the frozen score."""

import numpy as np
from jaxtyping import Bool, Float

from softmode.estimate import Array
from softmode.experiments.dictionary.states import longest_wave
from softmode.lattice import ReceptiveField

# share of the power in one wave, on the largest lattice, from which on states are called ordered
ORDERED = 0.05
VERDICTS = ("uniform", "modulated", "frustrated or undecided")


def verdicts(
    height: Float[Array, "*shape"], stderr: Float[Array, "*shape"], k: Float[Array, "*shape d"], field: ReceptiveField
) -> Array:
    """Return the index of the verdict of each realisation, among VERDICTS.

    Ordered is what holds more than ORDERED of its power in one wave by two standard errors: uniform if that wave is
    longer than two patches, modulated otherwise.

    Args:
        height: S(k)/N of the peak.
        stderr: Its standard error over replicas.
        k: Where the peak is, radians per site.
        field: Receptive field.
    """
    ordered = height - 2 * stderr > ORDERED
    uniform = np.linalg.norm(k, axis=-1) <= longest_wave(field)
    return np.where(ordered, np.where(uniform, 0, 1), 2)


def near(k: Float[Array, "*shape d"], other: Float[Array, "*shape d"], within: float) -> Bool[Array, "*shape"]:
    """Return whether two waves are the same up to their sign, the lattice's own and a distance (radians per site)."""

    def distance(difference: Array) -> Array:
        return np.asarray(np.linalg.norm(np.mod(difference + np.pi, 2 * np.pi) - np.pi, axis=-1))

    return np.asarray(np.minimum(distance(k - other), distance(k + other)) <= within)
