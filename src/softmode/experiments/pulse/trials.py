"""What an experiment on guidance needs, from its config: denoisers, guides, a classifier, levels, real data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from softmode.config import GuidedConfig, WindowConfig
from softmode.contract import check_classifier, check_denoiser
from softmode.denoiser import Autocast, Denoiser
from softmode.device import parse_device
from softmode.estimate import Array
from softmode.experiments.checks import NONE, find_classifier
from softmode.experiments.curves import check_counts
from softmode.experiments.labels import parse_labels
from softmode.experiments.probe_setup import flow_levels, read_images
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.networks.load import load_model
from softmode.process import rho_grid

DROPPED = "dropped"
# images of which a classifier takes the features at once
AT_ONCE = 50

# maps noise levels to weights, scalar or one per trial
Weight = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Condition:
    """One way to guide the trials of an experiment.

    Args:
        name: Stable identifier.
        definition: What it is, in one line.
        source: Section of the paper or key of a publication.
        weight: Maps a class and its trials to w(sigma) for that batch; None for no guidance.
    """

    name: str
    definition: str
    source: str
    weight: Callable[[int, Sequence[int]], Weight] | None


@dataclass(frozen=True, eq=False)
class Guidance:
    """Everything that a checked config determines, but for the conditions.

    Args:
        config: The config.
        model: The model.
        denoisers: (denoiser, guide) by class, in the precision asked for.
        classifier: Tells the classes of samples.
        levels: Falling noise levels of the sampler, float64 [level].
        real: Features of real images [image, feature], and their classes [image], -1 where unknown; empty without any.
        dtype: Floating type of the states.
        device: Device of the states.
    """

    config: GuidedConfig
    model: Model
    denoisers: dict[int, tuple[Denoiser, Denoiser]]
    classifier: ImageClassifier
    levels: Tensor
    real: tuple[Array, Array]
    dtype: torch.dtype
    device: torch.device

    @property
    def labels(self) -> list[int]:
        """The classes."""
        return list(self.denoisers)


def prepare(
    config: GuidedConfig,
    model: Model | None = None,
    guide: Model | None = None,
    classifier: ImageClassifier | None = None,
) -> Guidance:
    """Check a config and build what it describes; nothing is written.

    Args:
        config: What to guide and how.
        model: The model, where it is at hand; loaded by the config's name when left out.
        guide: The model of the guide, where it is at hand; by the config's name when left out.
        classifier: The classifier, where it is at hand; by the config's name when left out.

    Raises:
        ValueError: If any field is out of range or a model cannot be used, naming the remedy.
    """
    check_counts(config, ("classes", "trials", "block"))
    if not math.isfinite(config.weight):
        raise ValueError(f"weight: got {config.weight}; expected a finite number")
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model = model or load_model(config.model, device=device, dtype=dtype)
    if not model.classes:
        raise ValueError(f"model: {config.model!r} has no classes, with which guidance is to align its samples")
    labels = _labels(config, model)
    guide = guide or _guide_model(config, model, device, dtype)
    levels = rho_grid(*_common_levels(model, guide), config.steps)
    if classifier is None:
        classifier = _classifier(config, model, device)
    if classifier.classes <= max(labels):
        raise ValueError(
            f"classifier: {config.classifier!r} tells {classifier.classes} classes; labels has {max(labels)}"
        )
    denoisers = {label: (model.denoiser(label), _bind_guide(guide, model, label)) for label in labels}
    for denoiser in [each for pair in denoisers.values() for each in pair]:
        check_denoiser(denoiser, model, dtype, device, float(levels[len(levels) // 2]))
    check_classifier(classifier, model, torch.float32, device)
    if config.precision != "full":
        precision = getattr(torch, config.precision)
        denoisers = {
            label: (Autocast(denoiser, precision), Autocast(guide_of, precision))
            for label, (denoiser, guide_of) in denoisers.items()
        }
    real = _real(config, model, classifier, device)
    return Guidance(config, model, denoisers, classifier, levels, real, dtype, device)


def window_config(guidance: Guidance, clones: int) -> WindowConfig:
    """Return the config of the window that an experiment measures for itself: all its classes, four trajectories each.

    Source: paper H.3.
    """
    config, labels = guidance.config, guidance.labels
    # a small lattice has fewer shells than the default
    most = (min(guidance.model.shape[1:]) - 1) // 2
    return WindowConfig(
        config.model, labels=",".join(map(str, labels)), trajectories=max(4 * len(labels), clones), clones=clones,
        shells=min(WindowConfig.shells, most), seed=config.seed, dtype=config.dtype, precision=config.precision,
        device=config.device, block=config.block, classifier=config.classifier,
    )  # fmt: skip


def _labels(config: GuidedConfig, model: Model) -> list[int]:
    if config.labels:
        return [label for label in parse_labels(config.labels, model, model.classes) if label is not None]
    if config.classes > model.classes:
        raise ValueError(f"classes: got {config.classes}; expected at most {model.classes}, those of the model")
    return [i * model.classes // config.classes for i in range(config.classes)]


def _guide_model(config: GuidedConfig, model: Model, device: torch.device, dtype: torch.dtype) -> Model:
    if config.guide == DROPPED:
        return model
    try:
        guide = load_model(config.guide, device=device, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"guide: cannot use {config.guide!r} ({error})") from None
    if guide.shape != model.shape:
        raise ValueError(f"guide: {config.guide!r} has states {guide.shape}; expected {model.shape}, the model's")
    if guide.classes not in (0, model.classes):
        raise ValueError(
            f"guide: {config.guide!r} knows {guide.classes} classes; expected none or the model's {model.classes}"
        )
    return guide


def _bind_guide(guide: Model, model: Model, label: int) -> Denoiser:
    """Return the guide of a class: without its label, or another network, of the class if it knows classes."""
    if guide is not model:
        return guide.denoiser(label if guide.classes else None)
    try:
        return guide.denoiser(None)
    except ValueError as error:
        raise ValueError(f"guide: {model.name!r} cannot drop its label ({error}); name another model") from None


def _common_levels(model: Model, guide: Model) -> tuple[float, float]:
    """Return the first and the last noise level (H.1), within what both models know."""
    ends = [flow_levels(each) for each in (model, guide)]
    return min(first for first, _ in ends), max(last for _, last in ends)


def _classifier(config: GuidedConfig, model: Model, device: torch.device) -> ImageClassifier:
    if config.classifier == NONE:
        raise ValueError("classifier: got none; alignment needs one, by name or path")
    found, _, note = find_classifier(config.classifier, model, device)
    if found is None:
        raise ValueError(f"classifier: {note}; name another with --classifier")
    return found


def _real(config: GuidedConfig, model: Model, classifier: ImageClassifier, device: torch.device) -> tuple[Array, Array]:
    """Return features and classes of the real images that came with the model, or of --data."""
    if config.data:
        images = read_images(config.data, model.shape)
        known = np.full(len(images), -1)
    elif model.images is not None and model.images.shape == model.shape:
        images, known = model.images.tensor(), model.images.labels.numpy()
    else:
        return np.empty((0, 0), np.float32), np.empty(0, int)
    return features_of(images, classifier, device), known


@torch.no_grad()
def features_of(images: Tensor, classifier: ImageClassifier, device: torch.device) -> Array:
    """Return what a classifier's last layer sees of images [image, channel, *space], float32 [image, feature]."""
    parts = [classifier.features(part.to(device, torch.float32)).float().cpu() for part in images.split(AT_ONCE)]
    return torch.cat(parts).numpy()
