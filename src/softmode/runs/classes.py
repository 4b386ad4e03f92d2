"""Classes of a run's trajectories: dealt out in turn, and measured apart."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

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


def by_label(
    labels: Sequence[Label], trajectories: range, measure: Callable[[Label, list[int]], Mapping[str, Array]]
) -> dict[str, Array]:
    """Measure the trajectories of each class apart and return every array in the order of the trajectories.

    Args:
        labels: The classes that are dealt out.
        trajectories: Global indices of the trajectories.
        measure: Maps a class and its trajectories to arrays [trajectory, ...].
    """
    groups: dict[Label, list[int]] = {}
    for i in trajectories:
        groups.setdefault(label_of(labels, i), []).append(i)
    parts = [measure(label, group) for label, group in groups.items()]
    back = np.argsort(np.concatenate(list(groups.values())))
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
