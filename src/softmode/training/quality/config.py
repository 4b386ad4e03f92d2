"""What a user chooses of a measurement of quality. Nothing heavy is imported."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional

from softmode.bounds import Bounds


@dataclass(frozen=True)
class QualityConfig:
    """Measure how good a network is: square errors, the Gaussian bound, label information, samples.

    Example: softmode quality fashion-mnist

    Everything is measured on held-out images, in minutes; --samples and --images make it shorter.
    """

    model: Positional[str]
    """A name of softmode models, or a path made by softmode train."""
    images: Annotated[int, Bounds(2, 10000)] = 100
    """Held-out images that are noised."""
    samples: Annotated[int, Bounds(2, 10**6)] = 1000
    """Unguided samples, dealt out to the classes, or to twenty combinations of attributes, in turn; as many held-out
    images beside them."""
    classifier: str = ""
    """What recognises samples, and whose features the Fréchet distance takes; that of its data when left out."""
    precision: Literal["full", "bfloat16"] = "full"
    """Arithmetic of the network's layers."""
    record: bool = False
    """Whether to write what is found on the card of the model's weights, which softmode models shows."""
    figure: str = ""
    """PNG file for a picture of the first sixteen samples beside sixteen held-out images, none chosen."""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of the noise."""
    device: str = "cpu"
    """cpu, cuda or cuda:1."""
    data: str = ""
    """Directory of Fashion-MNIST, where it is not found by itself; or the npz file of the avatars."""
