"""Classes of a run's trajectories: dealt out in turn, and measured together where the model takes several at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from softmode.contract import check_batched, check_denoiser
from softmode.denoiser import Denoiser
from softmode.estimate import Array
from softmode.labels import Label
from softmode.model import Model


def dealt_labels(labels: Sequence[int | str], model: Model, trajectories: int) -> tuple[Label, ...]:
    """Return the labels that are dealt out: where none is named, None, all samples together, or every prompt.

    Raises:
        ValueError: If the model lacks a class or an attribute, one comes twice, or there are more than trajectories.
    """
    if not labels and model.dropped is not None:
        labels = tuple(range(model.classes))
    if not labels:
        return (None,)
    shown = [model.shown(label, "labels") for label in labels]
    if len(set(shown)) < len(shown):
        raise ValueError(f"labels: got {list(labels)}, in which a class comes twice; name each once")
    if len(labels) > trajectories:
        raise ValueError(f"trajectories: got {trajectories}; expected at least {len(labels)}, one of each class")
    return tuple(labels)


def label_of(labels: Sequence[Label], trajectory: int) -> Label:
    """Return the class of a trajectory."""
    return labels[trajectory % len(labels)]


def check_dealt(
    denoisers: Mapping[Label, Denoiser],
    model: Model,
    dtype: torch.dtype,
    device: torch.device,
    sigma: float,
    rounded: bool = False,
) -> float:
    """Raise a ValueError unless each label's denoiser is one, and all of them are the same in one call.

    Args:
        denoisers: The denoiser of each label that is dealt out.
        model: The model that they are of.
        dtype: Floating type of the states.
        device: Device of the states.
        sigma: Noise level.
        rounded: As for `check_denoiser`.

    Returns:
        Seconds per state of the slowest (s).
    """
    seconds = [check_denoiser(denoiser, model, dtype, device, sigma, rounded) for denoiser in denoisers.values()]
    check_batched(model, list(denoisers), dtype, device, sigma)
    return max(seconds)


def batches(model: Model, labels: Sequence[Label], trajectories: Sequence[int]) -> list[list[int]]:
    """Return the trajectories that go through the network together: all of them, or those of each label.

    Args:
        model: The model, which may take several labels in one call.
        labels: The labels that are dealt out.
        trajectories: Global indices of the trajectories.
    """
    if model.batched is not None:
        return [list(trajectories)]
    return [group for _, group in by_label(labels, trajectories)]


def by_label(labels: Sequence[Label], trajectories: Sequence[int]) -> Iterator[tuple[Label, list[int]]]:
    """Yield each label of some trajectories with those of it."""
    found = dict.fromkeys(label_of(labels, i) for i in trajectories)
    return ((label, [i for i in trajectories if label_of(labels, i) == label]) for label in found)


def in_batches(
    model: Model,
    denoisers: Mapping[Label, Denoiser],
    trajectories: Sequence[int],
    measure: Callable[[Denoiser, list[int]], Mapping[str, Array]],
) -> dict[str, Array]:
    """Measure trajectories in `batches` and return every array in their order.

    Args:
        model: The model.
        denoisers: Its denoiser of each label that is dealt out.
        trajectories: Global indices of the trajectories, rising.
        measure: Maps trajectories, with the denoiser of their states in this order, to arrays [trajectory, ...].
    """
    labels = tuple(denoisers)
    groups, parts = batches(model, labels, trajectories), []
    for group in groups:
        own = [label_of(labels, i) for i in group]
        parts.append(measure(denoisers[own[0]] if len(set(own)) == 1 else model.of_states(own), group))
    back = np.argsort(np.concatenate(groups))
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}


def own_images(images: Mapping[Label, Any], trajectories: Sequence[int]) -> torch.Tensor:
    """Return each trajectory's image among those of its label, [trajectory, channel, *space].

    Args:
        images: Images of each label that is dealt out, [image, channel, *space].
        trajectories: Global indices of the trajectories.
    """
    labels = tuple(images)
    return torch.stack([images[label_of(labels, i)][i // len(labels)] for i in trajectories])
