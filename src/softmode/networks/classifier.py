"""What a classifier of images is, and a small convolutional one that tells the classes of generated images."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

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
