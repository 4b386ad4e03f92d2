"""Denoisers of classes, from one network that is told the class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softmode.message import refusal


@dataclass(frozen=True, eq=False)
class OfClasses:
    """The denoiser of every class; called itself, that of the null class.

    Args:
        network: The network, for its name.
        several: Maps the class of each of some states, one after the other, to the denoiser of that batch.
        classes: Number of classes, the null class among them.
        null_label: The class that stands for all samples together; None for none.
    """

    network: Any
    several: Callable[[Sequence[int]], Any]
    classes: int
    null_label: int | None = None

    @property
    def levels(self) -> tuple[float, float] | None:
        """Lowest and highest noise level at which the denoisers can be asked; None where that is not known."""
        return getattr(self.several([0]), "levels", None)

    def of(self, label: int | None) -> Any:
        """Return the denoiser of a class, or for None of all samples together.

        Raises:
            ValueError: If there is no null class.
        """
        return self.batched([label])

    def batched(self, labels: Sequence[int | None]) -> Any:
        """Return the denoiser of states with a class each, or of any number with one, as `of` does.

        Raises:
            ValueError: If one has no class, and there is no null class.
        """
        known = [self.null_label if label is None else label for label in labels]
        told = [label for label in known if label is not None]
        if len(told) < len(known):
            raise refusal(
                f"labels: this model has no class for all of them; name some of 0 to {self.classes - 1}, or with "
                "null_label the one that stands for all"
            )
        return self.several(told)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x_0 | x] of all samples together, of the shape of x."""
        out: Tensor = self.of(None)(x, sigma)
        return out


def of_classes(
    network: Callable[..., Any], make: Callable[[Callable[[Tensor, Tensor], Any]], Any], classes: int, null_label: Any
) -> Any:
    """Return the denoiser that is made of a network, or that of every class of a network which is told the class.

    Args:
        network: Called with states and times [batch]; if there are classes, with the class [batch], int64, as well.
        make: Makes a denoiser of a network without classes.
        classes: Number of classes; 0 for none.
        null_label: The class that stands for all samples together; None for none.

    Raises:
        ValueError: If there is no such class.
    """
    check_null("null_label", null_label, classes, "the network")
    if not classes:
        return make(network)

    def several(labels: Sequence[int]) -> Any:
        # one label is that of all states
        return make(lambda x, t: network(x, t, torch.tensor(labels, device=x.device).expand(len(x))))

    return OfClasses(network, several, classes, null_label)


def check_null(name: str, label: int | None, classes: int, of: str) -> None:
    """Raise a ValueError unless a label, the argument of a name, is None or one of some classes."""
    if label is None:
        return
    if not classes:
        raise refusal(f"{name}: got {label}; {of} has no classes: leave it out")
    if not 0 <= label < classes:
        raise refusal(f"{name}: got {label}; expected one of the classes 0 to {classes - 1} of {of}")
