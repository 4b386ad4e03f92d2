"""Models that a user's own function makes: python:module:function."""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from softmode.denoiser import Denoiser
from softmode.files import FILE, kind_of, sha256
from softmode.message import first_line, quote, refusal
from softmode.model import Model
from softmode.process import parse_process


def load_function(
    source: str, schedule: str, shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Model:
    """Return the model that a function without arguments makes: it returns a Denoiser or a `Model`.

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
    function, module = _find(source)
    try:
        made: Any = function()
    # whatever the user's code raises is told as the user's
    except (Exception, SystemExit) as error:
        raise refusal(
            f"model: {name} failed when it was called without arguments ({first_line(error)}); expected a function "
            "that returns a Denoiser or a softmode.Model"
        ) from error
    inputs = _source(module)
    if isinstance(made, Model):
        if shape and shape != made.shape:
            raise refusal(f"shape: got {shape}; {name} makes a model of {quote(made.shape)}: leave it out")
        process = parse_process(schedule) if schedule else made.process
        return replace(made, name=source, process=process, inputs={**made.inputs, **inputs})
    if not callable(made):
        raise refusal(f"model: {name} returned {type(made).__name__}; expected a Denoiser, D(x, sigma)")
    if len(shape) < 2:
        raise refusal(f"shape: got {shape}; expected channels and sides of a state of {name}, for example 1,28,28")
    denoiser: Denoiser = made
    return Model(source, parse_process(schedule or "vp:1"), shape, lambda _label: denoiser, inputs=inputs)


def _find(source: str) -> tuple[Callable[[], Any], Any]:
    """Return the function and the module that it was asked of."""
    place, _, name = source.removeprefix("python:").partition(":")
    if not (place and name):
        raise refusal(f"model: got {quote(source)}; expected python:module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module in the user's own directory, as for python -m
    try:
        module = importlib.import_module(place)
        return getattr(module, name), module
    except (Exception, SystemExit) as error:
        raise refusal(
            f"model: cannot import {quote(source)} ({first_line(error)}); expected python:module:function"
        ) from error


def _source(module: Any) -> dict[str, str]:
    """Return the digest of a module's source file; nothing for one that is built in."""
    try:
        path = Path(inspect.getfile(module))
    except TypeError:
        return {}
    return {"source": sha256(path)} if kind_of(path) == FILE else {}
