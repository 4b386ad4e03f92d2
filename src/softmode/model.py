"""What can be probed: a denoiser for each class, with its process, its states and its data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from softmode.adapted import adapted
from softmode.data import Images
from softmode.denoiser import Autocast, Denoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.labels import Label, Shown, read_label
from softmode.message import quote, refusal
from softmode.of_classes import OfClasses, check_null
from softmode.per_state import PerState
from softmode.process import Process


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model that can be probed.

    Args:
        name: How the user named it.
        process: The process it is a denoiser of.
        shape: Shape of a state, (channel, *space).
        bind: Maps a class, or the value of each attribute, the number of its values where it is not asked for, or
            None for neither, to a denoiser.
        classes: Number of classes; 0 for none.
        binary: Whether its data are ±1, so that sign(x) says it all.
        images: Held-out data; None where none came with the model.
        spectrum: Variance of the training data along each Fourier mode, [class or 1, *space], all classes last.
        mean: Mean of the training data, [class or 1, channel, *space].
        card: The card of its weights, `softmode.networks.card.Card`; None where it has none.
        levels: Lowest and highest noise level that it knows; None where it knows them all.
        inputs: SHA-256 digest in hexadecimal of each file it was made of, by what the file is: weights, source, ...
        attributes: Names of the values of each attribute, by the attribute's name; empty where there are classes.
        dropped: Maps a class to the denoiser that guidance pushes it away from, where that is none of all samples
            together, as a negative prompt's is not: None has no denoiser then, and the classes are dealt out where none
            is named.
        batched: Maps what `bind` takes for each of several states, one after the other, to a denoiser of a batch of
            these states, in one call of the network; None where states of different labels are to go one label at a
            time.
        null_label: The class that stands for all samples together, where one of `classes` does; it is no label then.
        scheduler: Maps a number of steps to the scheduler of its pipeline of diffusers, after its set_timesteps as the
            pipeline calls it; None of other models.
    """

    name: str
    process: Process
    shape: tuple[int, ...]
    bind: Callable[[Any], Denoiser]
    classes: int = 0
    binary: bool = False
    images: Images | None = None
    spectrum: Tensor | None = None
    mean: Tensor | None = None
    card: Any = None
    levels: tuple[float, float] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: Callable[[int], Denoiser] | None = None
    batched: Callable[[Sequence[Any]], Denoiser] | None = None
    null_label: int | None = None
    scheduler: Callable[[int], Any] | None = None

    def __repr__(self) -> str:
        """Return its name, the shape of its states, and its classes or attributes."""
        told = f"attributes={list(self.attributes)}" if self.attributes else f"classes={self.classes}"
        return f"Model({self.name!r}, {self.process}, shape={self.shape}, {told})"

    def denoiser(self, label: Label = None) -> Denoiser:
        """Return the denoiser of a class, of some attributes' values (`hat=1+glasses=0`), or of all samples together.

        Raises:
            ValueError: If the model lacks the class, an attribute or a value.
        """
        return adapted(self.bind(self._told(label)))

    @property
    def labels(self) -> tuple[int, ...]:
        """Its classes, without the one that stands for all samples together."""
        return tuple(label for label in range(self.classes) if label != self.null_label)

    def with_null(self, label: int | None) -> "Model":
        """Return the model with one of its classes for all samples together; itself for None.

        Args:
            label: The class.

        Raises:
            ValueError: If the model has no such class, or its classes are prompts or attributes.
        """
        if label is None:
            return self
        if self.dropped is not None or self.attributes:
            kind = "prompts, of which a negative one is dropped" if self.dropped else "attributes"
            raise refusal(f"null_label: got {label}; the labels of {quote(self.name)} are {kind}: leave it out")
        check_null("null_label", label, self.classes, quote(self.name))
        return replace(self, null_label=label)

    def of_states(self, labels: Sequence[Label]) -> PerState:
        """Return the denoiser of a batch of states with a label each, of a model that takes several in one call.

        Raises:
            ValueError: If it does not, or lacks a class, an attribute or a value.
        """
        if self.batched is None:
            raise refusal(f"labels: {quote(self.name)} takes one label at a time; give it `batched`")
        batched = self.batched
        return PerState(lambda told: adapted(batched(told)), tuple(map(self._told, labels)))

    def _told(self, label: Label) -> Shown:
        """Return what the network is told of a label, or of none."""
        shown = self.shown(label)
        return self.null_label if shown is None else shown

    def computing_in(self, precision: str) -> "Model":
        """Return the model with its networks in a lower floating type, such as bfloat16; itself for full."""
        if precision == "full":
            return self
        dtype, bind, batched, dropped = getattr(torch, precision), self.bind, self.batched, self.dropped
        return replace(
            self,
            bind=lambda label: Autocast(adapted(bind(label)), dtype),
            batched=batched and (lambda labels: Autocast(adapted(batched(labels)), dtype)),
            dropped=dropped and (lambda label: Autocast(adapted(dropped(label)), dtype)),
        )

    def shown(self, label: Label, name: str = "label") -> Shown:
        """Return what the network is told of a label, which messages call `name`.

        Raises:
            ValueError: If the model lacks the class, an attribute or a value.
        """
        found = read_label(label, self.classes, self.attributes, name)
        if found is not None and found == self.null_label:
            raise refusal(f"{name}: got {found}, the null label, which stands for all samples together: leave it out")
        return found

    def held_out(self, label: Label = None) -> Tensor | None:
        """Return the held-out data [image, channel, *space] of a label, or None where none came with the model."""
        if self.images is None or self.images.shape != self.shape:
            return None
        shown, known = self.shown(label), self.images.labels
        if isinstance(shown, tuple):
            asked = torch.tensor(shown)
            free = torch.tensor([len(values) for values in self.attributes.values()]) == asked
            return self.images.tensor(((known == asked) | free).all(1))
        return self.images.tensor(slice(None) if shown is None else known == shown)

    def null(self, label: Label = None) -> GaussianDenoiser | None:
        """Return the Gaussian model with the data's mean and power spectrum, or None if these are not known."""
        if self.spectrum is None or self.mean is None or self.spectrum.shape[1:] != self.shape[1:]:
            return None
        shown = self.shown(label)
        if isinstance(shown, tuple):
            return None
        group = -1 if shown is None else shown
        return GaussianDenoiser(self.spectrum[group].double(), self.mean[group])


def as_model(name: str, denoiser: Any, process: Process, shape: tuple[int, ...], **more: Any) -> Model:
    """Return the model of a denoiser that comes alone, with the classes and the noise levels that it knows of.

    Args:
        name: How the user named it.
        denoiser: The denoiser.
        process: The process in which to sample.
        shape: Shape of a state.
        **more: Further fields of the model.
    """
    levels = getattr(denoiser, "levels", None)
    if not isinstance(denoiser, OfClasses):
        return Model(name, process, shape, lambda _label: denoiser, levels=levels, **more)
    null, several = denoiser.null_label, denoiser.batched
    return Model(
        name, process, shape, denoiser.of, denoiser.classes, levels=levels, null_label=null, batched=several, **more
    )
