"""What is measured: a model with its images, its random numbers, and the labels that it takes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from softmode.data import Images
from softmode.denoiser import Autocast, Denoiser
from softmode.estimate import NORMAL_95, Estimate
from softmode.labels import Label
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.runs.results import Quantity, Table
from softmode.streams import stream_seed, tag
from softmode.targets import Target, targets
from softmode.training.quality.config import QualityConfig

# images that go through the network at once
AT_ONCE = 50
# combinations of attributes that samples are drawn of: those of the first held-out images
COMBINATIONS = 20

Part = tuple[list[Quantity], dict[str, Table]]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with the images and the random numbers that it is measured with.

    Args:
        config: How much is measured.
        model: The model.
        images: Held-out images that are noised.
        real: All held-out images.
        classifier: What recognises samples.
        advance: Called after each unit of work.
    """

    config: QualityConfig
    model: Model
    images: Images
    real: Images
    classifier: ImageClassifier
    advance: Callable[[], None]

    @property
    def targets(self) -> tuple[Target, ...]:
        """The labels that the model takes."""
        return targets(self.model)

    def denoiser(self, label: Label = None) -> Denoiser:
        """Return the denoiser of a label in the precision asked for, which takes any number of states."""
        found = self.model.denoiser(label)
        kind = found if self.config.precision == "full" else Autocast(found, torch.bfloat16)
        return lambda x, sigma: torch.cat([kind(x[part], sigma) for part in parts(len(x))])

    def generator(self, what: str) -> torch.Generator:
        """Return the stream of one measurement, on the CPU."""
        return torch.Generator().manual_seed(stream_seed(self.config.seed, tag(what)))

    def of_own(self, target: Target, x: Tensor, sigma: float) -> Tensor:
        """Return D of each image's own value of a label."""
        out, truth = torch.empty_like(x), target.truth(self.images)
        for value, label in enumerate(target.labels):
            if bool((own := truth == value).any()):
                out[own] = self.denoiser(label)(x[own], sigma)
        return out

    def asked(self) -> list[tuple[Label, tuple[int, ...]]]:
        """Return what samples are drawn of, and the value of each label in it: every class, or some combinations."""
        if self.model.attributes:
            rows = self.real.labels[:COMBINATIONS].tolist()
            return [("+".join(map("{}={}".format, self.model.attributes, row)), tuple(row)) for row in rows]
        return [(label, (label,)) for label in range(self.model.classes)] or [(None, ())]


def parts(count: int) -> Iterator[slice]:
    """Return slices of at most AT_ONCE that cover a number of images."""
    return (slice(start, start + AT_ONCE) for start in range(0, count, AT_ONCE))


def mean(values: Tensor | np.ndarray) -> Estimate:
    """Return the mean of independent values with its standard error."""
    each = np.asarray(values, dtype=np.float64)
    found, stderr = float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each)))
    return Estimate(found, stderr, len(each), found - NORMAL_95 * stderr, found + NORMAL_95 * stderr)
