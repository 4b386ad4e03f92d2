"""Models and classifiers that a user's own function makes: python:module:function."""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from softmode.files import FILE, kind_of, sha256
from softmode.message import first_line, quote, refusal
from softmode.model import Model, as_model
from softmode.networks.classifier import ImageClassifier, as_classifier
from softmode.networks.objects import check_no_network, from_object, package_of
from softmode.process import parse_process


def load_function(
    source: str, schedule: str, shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Model:
    """Return the model that a function without arguments makes.

    It returns a Denoiser, a `Model`, or an object of another package that `from_object` reads.

    Args:
        source: python:module:function; the module may lie in the user's own directory.
        schedule: Process in which to sample; the model's own, or vp:1, when left out.
        shape: Shape of a state, needed for a Denoiser.
        device: Not used: the function decides.
        dtype: Not used either.

    Raises:
        ValueError: If there is no such function, it fails, or it returns something else.
    """
    name = quote(source)
    made, module = _made(source, "model", "a Denoiser or a softmode.Model")
    inputs = source_of(module)
    if package_of(made):
        made, shape = from_object(made, shape), ()
    if isinstance(made, Model):
        if shape and shape != made.shape:
            raise refusal(f"shape: got {shape}; {name} makes a model of {quote(made.shape)}: leave it out")
        process = parse_process(schedule) if schedule else made.process
        return replace(made, name=source, process=process, inputs={**made.inputs, **inputs})
    if not callable(made):
        raise refusal(f"model: {name} returned {type(made).__name__}; expected a Denoiser, D(x, sigma)")
    check_no_network(made)
    if len(shape) < 2:
        raise refusal(f"shape: got {shape}; expected channels and sides of a state of {name}, for example 1,28,28")
    return as_model(source, made, parse_process(schedule or "vp:1"), shape, inputs=inputs)


def load_classifier_function(source: str, shape: tuple[int, ...], device: torch.device | str) -> ImageClassifier:
    """Return the classifier that a user names, or that a function without arguments makes.

    Args:
        source: python:module:function; what it names is a function of states that returns logits, or, if it takes no
            argument, returns such a function or an `ImageClassifier`.
        shape: Shape of a state.
        device: Device of the states.

    Raises:
        ValueError: If there is no such function, it fails, or what it returns is no classifier of such states.
    """
    named, _ = find_function(source, "classifier")
    try:
        inspect.signature(named).bind()
    except TypeError:
        return as_classifier(named, shape, device, quote(source))
    made, _ = _made(source, "classifier", "a function of images that returns logits")
    return as_classifier(made, shape, device, quote(source))


def classifier_function_inputs(source: str) -> dict[str, str]:
    """Return the digest of the source file of a classifier's module."""
    return source_of(find_function(source, "classifier")[1])


def _made(source: str, what: str, expected: str) -> tuple[Any, Any]:
    """Return what a function makes, and the module that it was asked of."""
    function, module = find_function(source, what)
    try:
        return function(), module
    # whatever the user's code raises is told as the user's
    except (Exception, SystemExit) as error:
        raise refusal(
            f"{what}: {quote(source)} failed when it was called without arguments ({first_line(error)}); expected a "
            f"function that returns {expected}"
        ) from error


def find_function(source: str, what: str) -> tuple[Callable[..., Any], Any]:
    """Return the function that a user names, and the module that it was asked of.

    Args:
        source: python:module:function.
        what: What it is to be, which messages name.

    Raises:
        ValueError: If there is none, or its module fails.
    """
    place, _, name = source.removeprefix("python:").partition(":")
    if not (place and name):
        raise refusal(f"{what}: got {quote(source)}; expected python:module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module in the user's own directory, as for python -m
    try:
        module = importlib.import_module(place)
        return getattr(module, name), module
    except (Exception, SystemExit) as error:
        raise refusal(
            f"{what}: cannot import {quote(source)} ({first_line(error)}); expected python:module:function"
        ) from error


def source_of(module: Any) -> dict[str, str]:
    """Return the digest of a module's source file; nothing for one that is built in."""
    try:
        path = Path(inspect.getfile(module))
    except TypeError:
        return {}
    return {"source": sha256(path)} if kind_of(path) == FILE else {}
