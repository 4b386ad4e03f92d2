"""A small convolutional classifier, with which the classes of generated images are told."""

from jaxtyping import Float
from torch import Tensor, nn

WIDTHS = (32, 64, 128)


class Classifier(nn.Module):
    """Three stages of 3x3 convolutions with batch norm, each halving the image, then an average over sites.

    Args:
        channels: Channels of an image.
        classes: Number of classes.
    """

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        layers: list[nn.Module] = []
        for inputs, outputs in zip((channels, *WIDTHS), WIDTHS, strict=False):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=1, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTHS[-1], classes)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Return the logits of images with values in [-1, 1]."""
        logits: Tensor = self.head(self.layers(x).mean((2, 3)))
        return logits
