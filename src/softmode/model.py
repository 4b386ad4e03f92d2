"""What can be probed: a denoiser for each class, with its process, its states and its data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from softmode.data import Images
from softmode.denoiser import Denoiser
from softmode.exact.gaussian import GaussianDenoiser
from softmode.process import Process


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model that can be probed.

    Args:
        name: How the user named it.
        process: The process it is a denoiser of.
        shape: Shape of a state, (channel, *space).
        bind: Maps a class, or None for no class, to a denoiser.
        classes: Number of classes; 0 for none.
        binary: Whether its data are ±1, so that sign(x) says it all.
        images: Held-out data; None where none came with the model.
        spectrum: Variance of the training data along each Fourier mode, [class or 1, *space], all classes last.
        mean: Mean of the training data, [class or 1, channel, *space].
        card: The card of its weights, `softmode.networks.card.Card`; None where it has none.
        levels: Lowest and highest noise level that it knows; None where it knows them all.
        inputs: SHA-256 digest in hexadecimal of each file it was made of, by what the file is: weights, source, ...
    """

    name: str
    process: Process
    shape: tuple[int, ...]
    bind: Callable[[int | None], Denoiser]
    classes: int = 0
    binary: bool = False
    images: Images | None = None
    spectrum: Tensor | None = None
    mean: Tensor | None = None
    card: Any = None
    levels: tuple[float, float] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return its name, the shape of its states and its classes."""
        return f"Model({self.name!r}, {self.process}, shape={self.shape}, classes={self.classes})"

    def denoiser(self, label: int | None = None) -> Denoiser:
        """Return the denoiser of one class, or of all of them.

        Raises:
            ValueError: If the model lacks the class.
        """
        if label is not None and not 0 <= label < self.classes:
            known = f"0 to {self.classes - 1}" if self.classes else "none: the model has no classes"
            raise ValueError(f"label: got {label}; expected {known}")
        return self.bind(label)

    def null(self, label: int | None = None) -> GaussianDenoiser | None:
        """Return the Gaussian model with the data's mean and power spectrum, or None if these are not known."""
        if self.spectrum is None or self.mean is None or self.spectrum.shape[1:] != self.shape[1:]:
            return None
        group = -1 if label is None else label
        return GaussianDenoiser(self.spectrum[group].double(), self.mean[group])
