"""How long a measurement of quality takes."""

import time

from softmode.runs.progress import duration
from softmode.samplers import Heun
from softmode.training.quality import errors, information, samples
from softmode.training.quality import subject as subjects
from softmode.training.quality.subject import Subject


def evaluations(subject: Subject) -> int:
    """Return how many states go through the network."""
    images, targets = len(subject.images), subject.targets
    labels = sum(len(target.labels) for target in targets)
    noised = len(errors.LEVELS) * (2 if len(targets) == 1 else 1) + 4 * len(errors.BOUND_LEVELS)
    # at each level without a label, once with each attribute of the image's own, and with every value but at the last
    paths = information.PATH_LEVELS * (1 + len(targets)) + labels * (information.PATH_LEVELS - 1) if targets else 0
    drawn = int(Heun().calls(samples.times()).sum())
    return images * (noised + paths) + subject.config.samples * drawn


def outlook(subject: Subject) -> str:
    """Return a line on how long the measurement takes, from one batch of states."""
    count = min(subjects.AT_ONCE, len(subject.images))
    x = subject.images.tensor()[:count]
    float(subject.denoiser()(x, 1.0).sum())
    begun = time.monotonic()
    float(subject.denoiser()(x, 1.0).sum())
    whole = evaluations(subject) * (time.monotonic() - begun) / count
    return f"about {duration(whole)} for {evaluations(subject)} evaluations of the network on {x.device}"
