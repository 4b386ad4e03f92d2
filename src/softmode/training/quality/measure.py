"""Measure a model, say how good it is, and keep that on its card."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from softmode.data import Images, avatars, fashion_mnist
from softmode.device import parse_device
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.card import read_tensors, write_tensors
from softmode.networks.classifier import ImageClassifier
from softmode.networks.load import load_classifier, load_model
from softmode.networks.shipped import AVATARS_CLASSIFIER, CLASSIFIER, find_weights
from softmode.runs.draw import check_picture
from softmode.runs.progress import progress_bar
from softmode.runs.results import Quantity, Results, Table
from softmode.targets import targets
from softmode.training.quality import errors, information, samples
from softmode.training.quality.config import QualityConfig
from softmode.training.quality.cost import outlook
from softmode.training.quality.subject import Subject

SUMMARY = ("name", "what", "value")


def quality(config: QualityConfig, progress: bool = False, say: Callable[[str], None] | None = None) -> Results:
    """Measure a model, and return what `softmode quality` prints.

    Args:
        config: The model, and how much is measured.
        progress: Whether to show a progress bar.
        say: Told beforehand how long it takes.

    Raises:
        ValueError: If the model, the data or the classifier cannot be used, or are of different images.
    """
    check_picture(config.figure)
    device = parse_device(config.device)
    model = load_model(config.model, device=device)
    real = _held_out(config, model).to(device)
    classifier = _classifier(config, model, device)
    silent = Subject(config, model, real.first(config.images), real, classifier, lambda: None)
    labels = len(silent.targets)
    total = len(errors.LEVELS) + len(errors.BOUND_LEVELS) + labels * (information.PATH_LEVELS - 1)
    total += samples.SAMPLER_STEPS * samples.batches(silent)
    if say is not None:
        with torch.no_grad():
            say(outlook(silent))
    with progress_bar(progress, total, "measuring") as advance, torch.no_grad():
        subject = Subject(config, model, silent.images, real, classifier, advance)
        measures = errors.errors, errors.bound, information.information, samples.samples
        parts = [measure(subject) for measure in measures]
    quantities = [quantity for part in parts for quantity in part[0]]
    tables = {name: table for part in parts for name, table in part[1].items()}
    if config.record:
        record(find_weights(config.model), quantities)
    rows = tuple((q.name, q.what, q.estimate) for q in quantities if not (labels > 1 and q.index))
    summary = {"quality": Table("Quality", SUMMARY, rows)}
    return Results(_answer(subject, quantities), tuple(quantities), {**summary, **tables}, ())


def record(path: Path, quantities: Sequence[Quantity]) -> None:
    """Write quantities on the card of a weights file, in place of those of an earlier measurement."""
    tensors, metadata = read_tensors(path)
    card = json.loads(metadata["softmode"])
    card["held_out"] = {**card["held_out"], "quality": {each.name: each.estimate.plain() for each in quantities}}
    write_tensors(path, tensors, {"softmode": json.dumps(card)})


def _held_out(config: QualityConfig, model: Model) -> Images:
    """Return the held-out images that a model is measured on."""
    if model.attributes:
        real = avatars("test", config.data)
    else:
        real = fashion_mnist("test", "binary" if model.binary else "grey", config.data or None)
    if model.shape != real.shape or dict(model.attributes) != dict(real.attributes):
        raise refusal(f"model: {quote(config.model)} is of other states or attributes than the data, {real.shape}")
    if not real.attributes and model.classes not in (0, int(real.labels.max()) + 1):
        raise refusal(f"model: {quote(config.model)} has {model.classes} classes; expected Fashion-MNIST's ten")
    for name, count in (("samples", config.samples), ("images", config.images)):
        if count > len(real):
            raise refusal(f"{name}: got {count}; expected at most {len(real)}, the number of held-out images")
    return real


def _classifier(config: QualityConfig, model: Model, device: torch.device) -> ImageClassifier:
    """Return the classifier that recognises a model's samples."""
    name = config.classifier or (AVATARS_CLASSIFIER if model.attributes else CLASSIFIER)
    classifier = load_classifier(name, device)
    counts = sum(len(target.labels) for target in targets(model))
    if classifier.channels != model.shape[0] or counts not in (0, classifier.classes):
        raise refusal(
            f"classifier: {quote(name)} takes {classifier.channels} channels and tells {classifier.classes} values; "
            f"expected {model.shape[0]} and {counts}, the model's"
        )
    return classifier


def _answer(subject: Subject, quantities: Sequence[Quantity]) -> str:
    """Say how good the model is in two or three sentences."""
    found = {quantity.name: quantity.estimate for quantity in quantities}
    said = [_of_labels(subject, quantities)] if subject.targets else []
    said.append(f"The Fréchet distance of its samples to real images is {found['frechet'].value:.3g}.")
    if "bound_excess" in found:
        kept = found["bound_excess"].value < 4
        said.append(f"It {'keeps' if kept else 'breaks'} the Gaussian bound of the mean gains.")
    return " ".join(said)


def _of_labels(subject: Subject, quantities: Sequence[Quantity]) -> str:
    shares, known = ([q for q in quantities if q.kind == kind] for kind in ("recognised", "label_information"))
    if len(shares) == 1:
        share = f"{shares[0].estimate.value:.0%} of its samples are recognised as their class"
        nats = f"{known[0].estimate} of {math.log(len(subject.targets[0].labels)):.3f} nats"
        return f"{share}, and it carries {nats} about it."
    parts = [
        each.estimate.value / math.log(len(target.labels)) for target, each in zip(subject.targets, known, strict=True)
    ]
    least = parts.index(min(parts))
    return (
        f"Of its attributes it knows {subject.targets[least].name} least: {parts[least]:.0%} of what there is to know, "
        f"and {shares[least].estimate.value:.0%} of its samples are recognised by it."
    )
