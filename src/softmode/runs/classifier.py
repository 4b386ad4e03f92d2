"""The classifier that an experiment's config names, if it tells the classes of the model's states."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from softmode.contract import Classify, check_classifier
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.card import load_weights
from softmode.networks.classifier import ImageClassifier, OfFeatures, as_classifier
from softmode.networks.load import DINOV2, classifier_inputs, load_classifier
from softmode.networks.own_posterior import OwnPosterior
from softmode.networks.python import classifier_function_inputs, load_classifier_function
from softmode.networks.shipped import AVATARS_CLASSIFIER, CLASSIFIER, find_weights
from softmode.of_attributes import Values

# data whose classes the shipped classifier tells, as a model's card names them
FASHION_MNIST, AVATARS = "Fashion-MNIST", "avatars"
NONE, AUTO = "none", "auto"
PYTHON = "python"


def named_classifier(name: str, model: Model, device: torch.device) -> tuple[Classify | None, str, str]:
    """Return what `find_classifier` does, the classifier as a function of states of any floating type."""
    network, data, note = find_classifier(name, model, device)
    return None if network is None else lambda x: network(x.float()), data, note


def find_classifier(name: str, model: Model, device: torch.device) -> tuple[ImageClassifier | None, str, str]:
    """Return the classifier of a name or path, or None, its data set, and a note for the summary.

    Args:
        name: `auto` for that of the data that the model's card names.
        model: The model.
        device: Where to load it.

    Raises:
        ValueError: If there is no such classifier, or it is for other states.
    """
    if name == NONE:
        return None, "", "no agreement of classes: left out on request"
    if name == AUTO:
        if getattr(model.card, "data", "") != FASHION_MNIST:
            return None, "", f"no agreement of classes: no classifier is known for the data of {quote(model.name)}"
        name = CLASSIFIER
    if name.partition(":")[0] == DINOV2:
        return _dinov2(name, model, device), "imagenet", ""
    if name.partition(":")[0] == PYTHON:
        return load_classifier_function(name, model.shape, device), "", ""
    try:
        network = load_classifier(name, device)
        card = load_weights(find_weights(name))[1]  # for what it was trained on, which the network does not know
    except ValueError as error:
        raise refusal(
            f"classifier: cannot use {quote(name)} ({error}); make one with: softmode train {CLASSIFIER}, or use {NONE}"
        ) from None
    if (trained := (card.channels, *card.size)) != model.shape:
        raise refusal(
            f"classifier: {quote(name)} tells the classes of states {trained}, not {model.shape}; use {NONE} or another"
        )
    foreign = model.binary and card.values != "binary"
    note = f"{name} was trained on {card.values} images, the states are binary" if foreign else ""
    return network, card.data, note


def judge(
    name: str, given: Any, model: Model, labels: Sequence[int], device: torch.device, values: Values | None = None
) -> tuple[ImageClassifier, Mapping[str, str]]:
    """Return what tells the classes of samples, and the digests of its files.

    Args:
        name: As for `find_classifier`; of `none`, the model's own posterior.
        given: A classifier that is at hand; None for the named one.
        model: The model.
        labels: The classes that are to be told apart.
        device: Device of the states.
        values: Of which attributes the classes are values; None for a model of classes.

    Raises:
        ValueError: If there is none, or it tells fewer classes.
    """
    if name == AUTO and values is not None and getattr(model.card, "data", "") == AVATARS:
        name = AVATARS_CLASSIFIER
    if given is not None:
        found, inputs = as_classifier(given, model.shape, device), dict[str, str]()
    elif name == NONE and labels:
        return OwnPosterior(model, labels, device), {}
    else:
        named, _, note = find_classifier(name, model, device)
        if named is None:
            own = ", or none: the model's own posterior" * bool(labels)
            raise refusal(f"classifier: {note}; name one with --classifier{own}")
        found, inputs = named, named_inputs(name)
        if values is not None and name.partition(":")[0] != PYTHON:
            found = _of_values(name, found, values)
    if labels and found.classes <= max(labels):
        raise refusal(f"classifier: {quote(name)} tells {found.classes} classes; labels has {max(labels)}: use another")
    check_classifier(lambda x: found(x.float()), model, torch.float32, device)
    return found, inputs


def _of_values(name: str, found: ImageClassifier, values: Values) -> ImageClassifier:
    """Return a classifier of attributes as one of their values."""
    if found.classes != sum(values.counts):
        raise refusal(
            f"classifier: {quote(name)} tells {found.classes} classes; expected the {sum(values.counts)} values of the "
            "model's attributes: use none, the model's own posterior"
        )
    classes = len(values.labels) + (not values.complete)
    return OfFeatures(found.features, lambda features: values.logits(found.head(features)), found.channels, classes)


def named_inputs(name: str) -> dict[str, str]:
    """Return the digests of the files of a classifier that `find_classifier` found."""
    if name.partition(":")[0] == PYTHON:
        return classifier_function_inputs(name)
    return classifier_inputs(CLASSIFIER if name == AUTO else name)


def _dinov2(name: str, model: Model, device: torch.device) -> ImageClassifier:
    """Return a DINOv2 classifier, for images of any sides; raise a ValueError if the states are others."""
    if len(model.shape) != 3 or model.shape[0] != 3:
        raise refusal(
            f"classifier: {quote(name)} tells the classes of RGB images (3, height, width), not of states "
            f"{model.shape}; decode latents to images first, or use {NONE}"
        )
    return load_classifier(name, device)
