"""Classes of the trajectories: dealt out in turn, and measured apart."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from softmode.estimate import Array
from softmode.model import Model

Label = int | None


def parse_labels(text: str, model: Model, trajectories: int) -> tuple[Label, ...]:
    """Return the classes of a command line such as 207,388; one None, all classes together, for an empty one.

    Raises:
        ValueError: If these are no classes of the model, one comes twice, or there are more than trajectories.
    """
    if not text.strip():
        return (None,)
    try:
        labels = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"labels: got {text!r}; expected classes with commas between them, for example 207,388"
        ) from None
    for label in labels:
        if not 0 <= label < model.classes:
            known = f"0 to {model.classes - 1}" if model.classes else "none: the model has no classes"
            raise ValueError(f"labels: got {label}; expected {known}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels: got {text!r}, in which a class comes twice; name each once")
    if len(labels) > trajectories:
        raise ValueError(f"trajectories: got {trajectories}; expected at least {len(labels)}, one of each class")
    return labels


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
