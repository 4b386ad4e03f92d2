"""What a model can be asked about: its class, each of its attributes, or a given choice of labels."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from softmode.data import Images
from softmode.labels import Label
from softmode.model import Model


class Target(NamedTuple):
    """A label whose information is measured: the class, one attribute, or which of some labels a sample is.

    Args:
        name: What it is called.
        labels: How each of its values is asked for, whatever else there is left open.
        column: Its column of the images' labels; 0 of a choice that a user made.
    """

    name: str
    labels: tuple[Label, ...]
    column: int = 0

    def truth(self, images: Images) -> Tensor:
        """Return the value of each image, [image]."""
        return images.labels.reshape(len(images), -1)[:, self.column]


def targets(model: Model, chosen: Sequence[Label] = ()) -> tuple[Target, ...]:
    """Return the labels that a model takes, or the one target of a choice of them.

    Args:
        model: The model.
        chosen: Labels that are told apart; all that the model takes when empty.
    """
    if chosen:
        return (Target("label", tuple(chosen)),)
    if model.attributes:
        return tuple(
            Target(name, tuple(f"{name}={value}" for value in range(len(values))), column)
            for column, (name, values) in enumerate(model.attributes.items())
        )
    return (Target("class", model.labels),) if model.classes else ()
