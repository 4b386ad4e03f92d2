"""Models and classifiers by name: a prefix tells the family, each of which is a file, imported when it is named."""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.networks.shipped import CLASSIFIER

DIFFUSERS = "diffusers"
DINOV2 = "dinov2"


class Family(NamedTuple):
    """Where the models of a prefix are loaded.

    Args:
        module: Module below softmode.networks.
        load: Its function that loads one.
        inputs: Its function that tells the digests of a classifier's files.
        text: Whether its models take a prompt.
    """

    module: str
    load: str
    inputs: str = ""
    text: bool = False

    def function(self, name: str) -> Any:
        """Return a function of the module."""
        return getattr(importlib.import_module(f"softmode.networks.{self.module}"), name)


SHIPPED = Family("shipped", "load_shipped")
MODELS = {
    "python": Family("python", "load_function"),
    "edm": Family("edm_files", "load_edm_model"),
    "edm2": Family("edm2_files", "load_edm2_model"),
    "score_sde": Family("score_sde", "load_score_sde"),
    DIFFUSERS: Family("diffusers", "load_diffusers", text=True),
}
SHIPPED_CLASSIFIER = Family("shipped", "load_shipped_classifier", "shipped_inputs")
CLASSIFIERS = {DINOV2: Family("dinov2", "load_dinov2", "dinov2_inputs")}


def load_model(
    source: str,
    schedule: str = "",
    shape: Sequence[int] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    prompt: Sequence[str] = (),
    negative: str | None = None,
) -> Model:
    """Return the model that a user names.

    Args:
        source: A name of `softmode models`, the path of a weights file or of a directory of softmode train,
            `python:module:function`, a function without arguments that returns a Denoiser, `edm:file`, an official EDM
            pickle, `edm2:file`, the same of EDM2 or what softmode convert-edm2 made of one, `score_sde:file`, a
            checkpoint with its config beside it, or `diffusers:path-or-hub-id`.
        schedule: Process in which to sample, for example vp:1; the one of its training when left out.
        shape: Shape of a state, channel and sides; the card's when left out.
        device: Device of its weights.
        dtype: Floating type of its weights.
        prompt: Texts for a model of text; several are its classes.
        negative: What guidance pushes away from, for a model of text; its own when left out.

    Raises:
        ValueError: If there is no such model, or its weights cannot be used.
    """
    prefix, colon, _ = source.partition(":")
    family = MODELS.get(prefix, SHIPPED) if colon else SHIPPED
    for name, texts in (("prompt", tuple(prompt)), ("negative", () if negative is None else (negative,))):
        if texts and not family.text:
            raise refusal(f"{name}: got {quote(texts[0])}; {quote(source)} is no model of text: leave it out")
    asked = (source, schedule, tuple(shape), device, dtype)
    model: Model = family.function(family.load)(*asked, *((tuple(prompt), negative) if family.text else ()))
    return model


def takes_text(source: str) -> bool:
    """Return whether models of the family that a user names take a prompt."""
    prefix, colon, _ = source.partition(":")
    return bool(colon) and prefix in MODELS and MODELS[prefix].text


def load_classifier(source: str = CLASSIFIER, device: torch.device | str = "cpu") -> ImageClassifier:
    """Return a classifier.

    Args:
        source: A shipped name, the path of a weights file or of a directory of softmode train, or `dinov2:` and a
            directory, or a size (small, base, large, giant), which is downloaded from the hub.
        device: Device of its weights.

    Raises:
        ValueError: If there is none, or it is something else.
    """
    family = _classifier_family(source)
    classifier: ImageClassifier = family.function(family.load)(source, device)
    return classifier


def classifier_inputs(source: str = CLASSIFIER) -> dict[str, str]:
    """Return the SHA-256 digest of each file on this machine that a classifier is made of, by what the file is.

    Args:
        source: As for `load_classifier`; one of the hub has none.

    Raises:
        ValueError: If there is no such classifier.
    """
    family = _classifier_family(source)
    inputs: dict[str, str] = family.function(family.inputs)(source)
    return inputs


def _classifier_family(source: str) -> Family:
    return CLASSIFIERS.get(source.partition(":")[0], SHIPPED_CLASSIFIER)
