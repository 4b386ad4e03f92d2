"""A model of attributes as one of classes, each of which is some values of the same attributes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from softmode.data import Images
from softmode.labels import Label, read_label
from softmode.message import quote, refusal
from softmode.model import Model


@dataclass(frozen=True, eq=False)
class Values:
    """Values of some attributes, told apart as classes.

    Args:
        model: The model of attributes.
        labels: How each class is asked for, as `hat=1+glasses=0`; all of the same attributes.
    """

    model: Model
    labels: tuple[str, ...]

    @property
    def told(self) -> tuple[tuple[int, ...], ...]:
        """The value of each attribute for every class, the number of its values where it is left open."""
        shown = [read_label(label, 0, self.model.attributes) for label in self.labels]
        return tuple(each for each in shown if isinstance(each, tuple))

    @property
    def counts(self) -> list[int]:
        """Number of values of each attribute."""
        return [len(values) for values in self.model.attributes.values()]

    @property
    def complete(self) -> bool:
        """Whether every sample is of one of the classes."""
        asked = [n for n, value in zip(self.counts, self.told[0], strict=True) if value < n]
        return len(self.labels) == math.prod(asked)

    def as_classes(self) -> Model:
        """Return the model of these classes; its held-out images are those that are of one."""
        model, told = self.model, self.told
        batched = model.batched
        return replace(
            model,
            bind=lambda label: model.bind(None if label is None else told[label]),
            batched=batched and (lambda labels: batched([None if each is None else told[each] for each in labels])),
            classes=len(told),
            attributes={},
            spectrum=None,
            mean=None,
            images=None if model.images is None else self._own(model.images),
        )

    def logits(self, logits: Float[Tensor, "batch value"]) -> Float[Tensor, "batch class"]:
        """Return the log-probabilities of the classes, and of none of them where they are not all that there is.

        Args:
            logits: Logits of the values of every attribute, one attribute after the other.
        """
        parts = [part.log_softmax(1) for part in logits.split(self.counts, 1)]
        rows = [[(part, value) for part, value in zip(parts, told, strict=True) if value < part.shape[1]]
                for told in self.told]  # fmt: skip
        known = torch.stack([torch.stack([part[:, value] for part, value in row]).sum(0) for row in rows], 1)
        if self.complete:
            return known
        rest = (1 - known.exp().sum(1, keepdim=True)).clamp(min=torch.finfo(known.dtype).tiny).log()
        return torch.cat([known, rest], 1)

    def _own(self, images: Images) -> Images:
        labels = torch.full((len(images),), -1)
        for place, told in enumerate(self.told):
            asked = torch.tensor(told)
            labels[((images.labels == asked) | (asked == torch.tensor(self.counts))).all(1)] = place
        of_one = labels >= 0
        return Images(images.pixels[of_one], labels[of_one], images.values)


def values_of(model: Model, labels: Sequence[Label]) -> Values:
    """Return the values that some labels name; an attribute's own name stands for all its values.

    Args:
        model: A model of attributes.
        labels: Values of attributes, as `hat=1+glasses=0`, or names of attributes, as `hat`.

    Raises:
        ValueError: If none is named, one is unknown or comes twice, or they are not of the same attributes.
    """
    attributes, first = model.attributes, next(iter(model.attributes))
    if not labels:
        raise refusal(
            f"labels: got none; expected what to align samples with: one of {', '.join(attributes)}, or values, "
            f"{first}=0,{first}=1"
        )
    every = [
        each for label in labels for each in
        ([f"{label}={value}" for value in range(len(attributes[str(label)]))] if label in attributes else [label])
    ]  # fmt: skip
    shown = [model.shown(label, "labels") for label in every]
    if len(set(shown)) < len(shown):
        raise refusal(f"labels: got {quote(', '.join(map(str, labels)))}, in which one comes twice; name each once")
    found = Values(model, tuple(map(str, every)))
    free = {tuple(value == n for value, n in zip(told, found.counts, strict=True)) for told in found.told}
    if len(free) > 1:
        raise refusal(
            f"labels: got {quote(', '.join(map(str, labels)))}, not of the same attributes; name values of which a "
            f"sample has one, as {first}=0,{first}=1"
        )
    return found
