"""One Jacobian taken apart, and what carries its long-range rest."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.experiments.attention.networks import BOTH, FROZEN, NORMS, WHOLE
from softmode.observe.nonlocality import (
    Matrix,
    coherence,
    distances,
    far_modes,
    far_spectrum,
    power_by_distance,
    shares,
    split,
    uniform_coupling,
)

# far modes of each network
PAIRS = 12


class Apart(NamedTuple):
    """What is kept of a Jacobian.

    Attributes:
        values: Its arrays by name.
        far: Its long-range rest.
        vectors: The modes of that beyond the edge.
    """

    values: dict[str, Tensor]
    far: Matrix
    vectors: Float[Tensor, "pair entry"]


def apart(matrix: Matrix, shape: Sequence[int], radius: float, edge: float, signs: torch.Generator) -> Apart:
    """Split a Jacobian and find the modes of its long-range rest.

    Args:
        matrix: The Jacobian.
        shape: Shape of a state.
        radius: Distance up to which sites are near (sites).
        edge: Size that a mode must exceed beside the edge of noise.
        signs: Draws the signs of that.
    """
    parts = split(matrix, shape, radius)
    spectrum = far_spectrum(parts.far, PAIRS, signs)
    least = max(float(spectrum.edge), edge)
    modes = far_modes(parts.far, shape, radius, least, spectrum)
    beyond = (distances(shape[1:]) > radius).to(matrix.device).repeat(shape[0], shape[0])
    powers = [parts.average * ~beyond, parts.average * beyond, parts.near, parts.far]
    values = {
        "power": torch.stack([part.double().square().sum() for part in powers]),
        "distance_power": power_by_distance(matrix, shape),
        "rank": spectrum.rank,
        "strongest": spectrum.strongest,
        "noise_edge": spectrum.edge,
        "edge": torch.tensor(least, dtype=torch.float64),
        "uniform": uniform_coupling(parts.average, shape, radius).double(),
        "gamma": padded(modes.values, PAIRS),
        "coherence": padded(coherence(modes.vectors, shape[0]), PAIRS),
    }
    return Apart(values, parts.far, modes.vectors)


def padded(values: Float[Tensor, "pair *entry"], count: int) -> Float[Tensor, "count *entry"]:
    """Return the first of some values, as many as asked for, NaN where there are fewer."""
    found = values.new_full((count, *values.shape[1:]), math.nan)
    found[: min(count, len(values))] = values[:count]
    return found


def sources(far: Mapping[str, Matrix]) -> Float[Tensor, " source"]:
    """Return the shares of the whole network's long-range rest by what carries them.

    Every path through a network goes through its attention or not, and through the norms' statistics or not: four
    parts, of which the one without either is what convolutions reach. Freezing a part removes all paths through it.

    Args:
        far: Long-range rests by the network's name.

    Returns:
        Through attention alone, norms alone, both, and neither; NaN of what the network lacks.
    """
    whole, attention, norms, both = (far.get(name) for name in (WHOLE, FROZEN, NORMS, BOTH))
    assert whole is not None
    found = torch.full((4,), math.nan, dtype=torch.float64)
    if attention is not None and norms is not None and both is not None:
        found[:] = shares([norms - both, attention - both, whole - attention - norms + both, both])
    elif attention is not None:
        found[[0, 3]] = shares([whole - attention, attention]).cpu()
    elif norms is not None:
        found[[1, 3]] = shares([whole - norms, norms]).cpu()
    return found
