"""Weights and states by a formula, so that numbers computed with them elsewhere can be written down."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def waves(shape: tuple[int, ...], phase: float) -> Tensor:
    """Return sines of a growing frequency in float64."""
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(phase + 0.7 * place + 1e-3 * place.square().fmod(1e3)).reshape(shape)


def filled(state: Mapping[str, Tensor], kept: tuple[str, ...] = ("resample_filter", "u")) -> dict[str, Tensor]:
    """Return a network's state, its tensors waves of a phase by their place among the sorted names.

    Weights of norms are near 1, others of the size that keeps activations alike; buffers of some names are left.
    """
    found = dict[str, Tensor]()
    for place, name in enumerate(sorted(state)):
        last, shape = name.rpartition(".")[2], tuple(state[name].shape)
        if last in kept:
            found[name] = state[name].double()
            continue
        wave = waves(shape, place)
        if last == "freqs":
            found[name] = 0.5 * wave
        elif last == "weight" and len(shape) == 1:
            found[name] = 1 + 0.3 * wave
        else:
            found[name] = wave * (2 / math.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.2 * wave
    return found
