"""What a classifier of images is: a small convolutional one, and anybody's function as one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softmode.message import first_line, refusal

WIDTH = 32


@runtime_checkable
class ImageClassifier(Protocol):
    """Logits of images [batch, channel, height, width] with values in [-1, 1], by a linear map of features."""

    @property
    def channels(self) -> int:
        """Channels of an image."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    def features(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch feature"]:
        """Return what the last linear layer sees."""

    def head(self, features: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch class"]:
        """Return the logits of features."""

    def __call__(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Return the logits of images."""


class Classifier(nn.Module):
    """Three stages of 3x3 convolutions with batch norm, each halving the image, then an average over sites.

    Args:
        channels: Channels of an image.
        classes: Number of classes.
        width: Channels of the first stage; each further one has twice as many.
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: int = WIDTH) -> None:
        super().__init__()
        widths = width, 2 * width, 4 * width
        self.channels, self.classes = channels, classes
        layers: list[nn.Module] = []
        for inputs, outputs in zip((channels, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=1, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def features(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch feature"]:
        """Return the average over sites of the last stage, of images with values in [-1, 1]."""
        means: Tensor = self.layers(x).mean((2, 3))
        return means

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Return the logits of images with values in [-1, 1]."""
        logits: Tensor = self.head(self.features(x))
        return logits


@dataclass(frozen=True, eq=False)
class AnyClassifier:
    """Any function of images that returns logits as an `ImageClassifier`, whose features are its logits.

    Args:
        function: Returns logits [batch, class], or an object that has them as `logits`, as those of transformers do.
        channels: Channels of an image.
        classes: Number of classes.
    """

    function: Callable[[Tensor], Any]
    channels: int
    classes: int

    def features(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch class"]:
        """Return the logits of images."""
        logits: Tensor = logits_of(self.function(x))
        return logits

    def head(self, features: Float[Tensor, "batch class"]) -> Float[Tensor, "batch class"]:
        """Return features as they are."""
        return features

    def __call__(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch class"]:
        """Return the logits of images."""
        return self.features(x)


@dataclass(frozen=True, eq=False)
class OfFeatures:
    """An `ImageClassifier` of two functions.

    Args:
        features: What is seen of images, [batch, feature].
        head: Maps that to logits.
        channels: Channels of an image.
        classes: Number of classes.
    """

    features: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]
    channels: int
    classes: int

    def __call__(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Return the logits of images."""
        return self.head(self.features(x))


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """A classifier of torchvision or transformers behind its own preprocessing, for images with values in [-1, 1].

    Args:
        network: Returns logits, or an object that has them as `logits`.
        preprocess: What turns a batch of images with values in [0, 1] into the network's input: a transform of
            torchvision, such as `weights.transforms()`, or an image processor of transformers.
    """

    network: Callable[[Tensor], Any]
    preprocess: Callable[..., Any]

    def __call__(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Return the logits of images."""
        images = (x.clamp(-1, 1) + 1) / 2
        if hasattr(self.preprocess, "image_processor_type") or hasattr(self.preprocess, "image_mean"):
            # a processor of transformers would divide by 255, which is for bytes
            images = self.preprocess(
                images=list(images.cpu()), do_rescale=False, input_data_format="channels_first", return_tensors="pt"
            )["pixel_values"]
        else:
            images = self.preprocess(images)
        logits: Tensor = logits_of(self.network(images.to(x)))
        return logits


def logits_of(out: Any) -> Any:
    """Return logits, or those of an object that has them as `logits`."""
    return getattr(out, "logits", out)


@torch.no_grad()
def as_classifier(made: Any, shape: Sequence[int], device: torch.device | str, name: str = "") -> ImageClassifier:
    """Return what somebody calls a classifier as an `ImageClassifier` for states of a shape.

    Args:
        made: An `ImageClassifier`, or any function of states that returns logits.
        shape: Shape of a state, (channel, *space).
        device: Device of the states.
        name: What a message calls it; the name of its type when left out.

    Raises:
        ValueError: If it is no function, or fails on states of that shape, or returns no logits.
    """
    if isinstance(made, ImageClassifier):
        return made
    name = name or type(made).__name__
    if not callable(made):
        raise refusal(f"classifier: got {name}; expected a function of images that returns logits [batch, class]")
    try:
        logits = logits_of(made(torch.zeros(2, *shape, device=device)))
    # whatever the user's code raises
    except Exception as error:
        raise refusal(
            f"classifier: {name} fails on states {tuple(shape)} ({first_line(error)}); give a function of these, for "
            "example sm.Preprocessed(network, preprocess)"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise refusal(f"classifier: {name} returned {got} for two states; expected logits (2, classes)")
    return AnyClassifier(made, shape[0], logits.shape[1])
