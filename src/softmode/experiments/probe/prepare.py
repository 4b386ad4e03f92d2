"""What a probe's config determines: its open fields, the time grid, data and null of every class, a classifier."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from softmode.contract import Classify, check_classifier
from softmode.data import read_images
from softmode.denoiser import Denoiser
from softmode.exact.gaussian import GaussianDenoiser, null_model
from softmode.experiments.probe.config import Config
from softmode.files import sha256
from softmode.labels import Label
from softmode.levels import check_levels, default_times
from softmode.model import Model
from softmode.process import Process
from softmode.runs.classifier import named_classifier, named_inputs
from softmode.runs.identity import inputs_of
from softmode.samplers import check_start, sampler_for
from softmode.simulation import measured_steps, nearest_steps

DEFAULT_SNAPSHOTS = 8
# noise levels, in units of the data, between which the default snapshots lie
SNAPSHOT_LEVELS = (10.0, 0.1)


class OfClass(NamedTuple):
    """A model with its class bound.

    Attributes:
        denoiser: Its denoiser.
        null: The Gaussian model of the class's data; None where these are not known.
        images: Held-out data of the class [image, channel, *space]; None where there are none.
    """

    denoiser: Denoiser
    null: GaussianDenoiser | None
    images: Tensor | None


def settle(config: Config, model: Model) -> Config:
    """Return a config with every field filled in whose default depends on the model or the sampler."""
    sampler = sampler_for(config.sampler, model.process)
    t_max, t_min = default_times(model, sampler.ends(model.process))
    defaults: dict[str, Any] = {
        "t_max": t_max, "t_min": t_min, "steps": sampler.default_steps, "measure_every": sampler.default_every
    }  # fmt: skip
    found = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    return replace(config, **found | {"sampler": sampler.name})


def grid(config: Config, model: Model, dtype: torch.dtype) -> tuple[Tensor, list[int]]:
    """Return the time grid of a settled config and the indices on it at which to measure.

    Raises:
        ValueError: If a time is beyond what the process, the model or the floating type reaches.
    """
    t_max, t_min = cast(float, config.t_max), cast(float, config.t_min)
    steps, every = cast(int, config.steps), cast(int, config.measure_every)
    check_start(model.process, t_max, dtype)
    check_levels(model, t_max, t_min)
    times = sampler_for(config.sampler, model.process).grid(model.process, t_max, t_min, steps)
    measured = measured_steps(steps, every)
    # noised data need no steps between measurements
    return (times, measured) if config.states == "reverse" else (times[measured], list(range(len(measured))))


def snapshot_steps(config: Config, process: Process, times: Tensor) -> list[int]:
    """Return the grid indices of snapshots, rising: where the user wants them, or some of a coarse grid's own.

    Raises:
        ValueError: If the user names a time outside the grid, or too many.
    """
    if config.snapshots:
        return nearest_steps("snapshots", config.snapshots, times)
    levels = torch.from_numpy(np.geomspace(*SNAPSHOT_LEVELS, DEFAULT_SNAPSHOTS))
    wanted = process.time(levels).clamp(float(times[-1]), float(times[0])).tolist()
    return sorted({step for t in wanted for step in nearest_steps("snapshots", [t], times)})


def bind_classes(config: Config, model: Model, labels: Sequence[Label]) -> dict[Label, OfClass]:
    """Return the model of every class with its null model and its data.

    Raises:
        ValueError: If the data that the config names cannot be used, or are too few for noised states.
    """
    given = read_images(config.data, model.shape) if config.data else None
    classes = {label: OfClass(model.denoiser(label), *_data(model, label, given)) for label in labels}
    if config.states == "forward":
        _check_data(classes, config.trajectories)
    return classes


def denoisers_of(classes: Mapping[Label, OfClass]) -> dict[Label, Denoiser]:
    """Return the denoiser of each class."""
    return {label: of_class.denoiser for label, of_class in classes.items()}


def find_classify(
    config: Config, model: Model, given: Mapping[str, Any], device: torch.device, dtype: torch.dtype
) -> tuple[Classify | None, dict[str, str]]:
    """Return the classifier, or None where classes are left out, with the digests of its files.

    Raises:
        ValueError: If it is none for the model's states.
    """
    inputs: dict[str, str] = {}
    classify: Classify | None = given.get("classifier")
    if classify is None:
        classify, _, _ = named_classifier(config.classifier, model, device)
        inputs = {} if classify is None else named_inputs(config.classifier)
    if classify is not None:
        check_classifier(classify, model, dtype, device)
    return classify, inputs_of(classifier=inputs)


def file_inputs(config: Config, model: Model) -> dict[str, str]:
    """Return the digests of the model's files, and of the data that states or the null model are made of."""
    inputs = inputs_of(model=model.inputs)
    if config.data:
        inputs["data"] = sha256(config.data)
    elif config.states == "forward" and model.images is not None:
        inputs["images"] = hashlib.sha256(model.images.pixels.numpy().tobytes()).hexdigest()
    return inputs


def _data(model: Model, label: Label, given: Tensor | None) -> tuple[GaussianDenoiser | None, Tensor | None]:
    """Return the null model and the held-out data [image, channel, *space] of a class, either None where unknown."""
    if given is not None:
        return null_model(given), given
    return model.null(label), model.held_out(label)


def _check_data(classes: Mapping[Label, OfClass], trajectories: int) -> None:
    """Raise a ValueError unless there are data for every trajectory."""
    for place, (label, of_class) in enumerate(classes.items()):
        if of_class.images is None:
            raise ValueError("data: --states forward needs data, which this model lacks; name a file with --data")
        wanted = len(range(place, trajectories, len(classes)))
        if wanted > len(of_class.images):
            of = "" if label is None else f" of class {label}"
            raise ValueError(
                f"trajectories: got {trajectories}; expected at most {len(of_class.images)}{of}, the held-out data"
            )
