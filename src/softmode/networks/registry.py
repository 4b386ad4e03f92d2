"""Models by name, by path or by function: whatever a user names, as a denoiser with its process and its data."""

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softmode.data import Images
from softmode.denoiser import Denoiser, from_noise
from softmode.exact.gaussian import GaussianDenoiser
from softmode.networks.card import DATA, Card, check_state, load_weights, read_tensors
from softmode.networks.classifier import Classifier, ImageClassifier
from softmode.networks.edm2_pickle import load_edm2
from softmode.process import Process, parse_process

SHIPPED = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
CLASSIFIER = "fashion-mnist-classifier"
DIFFUSERS = "diffusers:"
DINOV2 = "dinov2"


@dataclass(frozen=True, eq=False)
class Model:
    """A model that can be probed.

    Args:
        name: How the user named it.
        process: The process it is a denoiser of.
        shape: Shape of a state, (channel, *space).
        bind: Maps a class, or None for no class, to a denoiser.
        classes: Number of classes; 0 for none.
        binary: Whether its data are ±1, so that sign(x) says it all.
        images: Held-out data; None where none came with the model.
        spectrum: Variance of the training data along each Fourier mode, [class or 1, *space], all classes last.
        mean: Mean of the training data, [class or 1, channel, *space].
        card: The card of its weights; None where it has none.
        levels: Lowest and highest noise level that it knows; None where it knows them all.
    """

    name: str
    process: Process
    shape: tuple[int, ...]
    bind: Callable[[int | None], Denoiser]
    classes: int = 0
    binary: bool = False
    images: Images | None = None
    spectrum: Tensor | None = None
    mean: Tensor | None = None
    card: Card | None = None
    levels: tuple[float, float] | None = None

    def denoiser(self, label: int | None = None) -> Denoiser:
        """Return the denoiser of one class, or of all of them.

        Raises:
            ValueError: If the model lacks the class.
        """
        if label is not None and not 0 <= label < self.classes:
            known = f"0 to {self.classes - 1}" if self.classes else "none: the model has no classes"
            raise ValueError(f"label: got {label}; expected {known}")
        return self.bind(label)

    def null(self, label: int | None = None) -> GaussianDenoiser | None:
        """Return the Gaussian model with the data's mean and power spectrum, or None if these are not known."""
        if self.spectrum is None or self.mean is None or self.spectrum.shape[1:] != self.shape[1:]:
            return None
        group = -1 if label is None else label
        return GaussianDenoiser(self.spectrum[group].double(), self.mean[group])


def load_model(
    source: str,
    schedule: str = "",
    shape: Sequence[int] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    prompt: str | None = None,
) -> Model:
    """Return the model that a user names.

    Args:
        source: A name of `softmode models`, the path of a weights file or of a directory of softmode train,
            `python:module:function`, a function without arguments that returns a Denoiser, `edm2:file`, an official
            EDM2 pickle or what softmode convert-edm2 made of one, or `diffusers:path-or-hub-id`.
        schedule: Process in which to sample, for example vp:1; the one of its training when left out.
        shape: Shape of a state, channel and sides; the card's when left out.
        device: Device of its weights.
        dtype: Floating type of its weights.
        prompt: Text for a model of text.

    Raises:
        ValueError: If there is no such model, or its weights cannot be used.
    """
    if source.startswith(DIFFUSERS):
        from softmode.networks.diffusers import load_diffusers

        return load_diffusers(source.removeprefix(DIFFUSERS), schedule, shape, device, dtype, prompt)
    if prompt is not None:
        raise ValueError(f"prompt: got {prompt!r}; {source!r} is no model of text: leave it out")
    if source.startswith("python:"):
        return _from_function(source, schedule, tuple(shape))
    if source.startswith("edm2:"):
        return _from_edm2(source, schedule, tuple(shape), device, dtype)
    network, card, statistics = load_weights(find_weights(source))
    if card.architecture != "unet":
        raise ValueError(f"model: {source!r} is a {card.architecture}, no denoiser; name a network of softmode models")
    network.to(device, dtype)
    process = parse_process(card.schedule)
    trained = (card.channels, *card.size)
    if shape and (shape[0] != card.channels or len(shape) != len(trained)):
        raise ValueError(f"shape: got {tuple(shape)}; expected {card.channels} channel(s) and two sides for {source!r}")
    kept = statistics.get("images")
    return Model(
        name=source,
        process=parse_process(schedule) if schedule else process,
        shape=tuple(shape) or trained,
        bind=lambda label: from_noise(_labelled(network, label), process),
        classes=card.classes,
        binary=card.values == "binary",
        images=None if kept is None else Images(kept, statistics["labels"], card.values),
        spectrum=statistics.get("spectrum"),
        mean=statistics.get("mean"),
        card=card,
    )


def _labelled(network: nn.Module, label: int | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a network with its class bound, for batches of any size."""
    if label is None:
        return network
    return lambda x, t: network(x, t, torch.full((len(x),), label, device=x.device))


def load_classifier(source: str = CLASSIFIER, device: torch.device | str = "cpu") -> ImageClassifier:
    """Return a classifier.

    Args:
        source: A shipped name, the path of a weights file or of a directory of softmode train, or `dinov2:` and a
            directory, or a size (small, base, large, giant), which is downloaded from the hub.
        device: Device of its weights.

    Raises:
        ValueError: If there is none, or it is something else.
    """
    if source.partition(":")[0] == DINOV2:
        from softmode.networks.dinov2 import load_dinov2

        return load_dinov2(source, device)
    network, _, _ = load_weights(find_weights(source))
    if not isinstance(network, Classifier):
        raise ValueError(f"classifier: {source!r} is no classifier; use {CLASSIFIER}")
    network.to(device)
    return network


def find_weights(source: str) -> Path:
    """Return the weights file of a shipped name, a path, or a directory of softmode train.

    Raises:
        ValueError: If there is none, naming the nearest names.
    """
    names = shipped_names()
    if source in names:
        return SHIPPED / f"{source}{SUFFIX}"
    path = Path(source)
    if path.is_dir():
        path = path / f"weights{SUFFIX}"
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise ValueError(
            f"model: there is no file {str(path)!r}; softmode train makes one, softmode models lists names"
        )
    near = difflib.get_close_matches(source, names, n=3, cutoff=0.3) or names
    raise ValueError(
        f"model: there is no {source!r}; did you mean {' or '.join(near)}? A path or python:module:function works too"
    )


def start_from(network: nn.Module, source: str) -> None:
    """Copy the weights of another network; a network without classes leaves the labels' embedding at zero.

    Raises:
        ValueError: If the source is of another architecture.
    """
    tensors, _ = read_tensors(find_weights(source))
    weights = {name: value.float() for name, value in tensors.items() if not name.startswith(DATA)}
    own = network.state_dict()
    if "label.weight" in own and "label.weight" not in weights:
        weights["label.weight"] = torch.zeros_like(own["label.weight"])
    check_state(network, weights, source)
    network.load_state_dict(weights)


def shipped_names() -> list[str]:
    """Return the names of the weights inside the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED.glob(f"*{SUFFIX}"))


def _from_edm2(
    source: str, schedule: str, shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Model:
    """Return the model of an EDM2 file, in the variance-exploding process of its training."""
    network = load_edm2(source.removeprefix("edm2:")).to(device, dtype)
    config = network.config
    trained = (config.img_channels, config.img_resolution, config.img_resolution)
    if shape and shape != trained:
        raise ValueError(f"shape: got {shape}; expected {trained}, that of {source!r}: leave it out")
    return Model(
        name=source,
        process=parse_process(schedule or "ve"),
        shape=trained,
        bind=lambda label: partial(network, label=label),
        classes=config.label_dim,
    )


def _from_function(source: str, schedule: str, shape: tuple[int, ...]) -> Model:
    """Return the model that a function makes."""
    module, _, name = source.removeprefix("python:").partition(":")
    if not (module and name):
        raise ValueError(f"model: got {source!r}; expected python:module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module in the user's own directory, as for python -m
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"model: cannot import {source!r} ({error})") from None
    made: Any = function()
    if isinstance(made, Model):
        if shape and shape != made.shape:
            raise ValueError(f"shape: got {shape}; {source!r} makes a model of {made.shape}: leave it out")
        return replace(made, name=source, process=parse_process(schedule) if schedule else made.process)
    if not callable(made):
        raise ValueError(f"model: {source!r} returned {type(made).__name__}; expected a Denoiser, D(x, sigma)")
    if len(shape) < 2:
        raise ValueError(
            f"shape: got {shape}; expected channels and sides of a state of {source!r}, for example 1,28,28"
        )
    denoiser: Denoiser = made
    return Model(source, parse_process(schedule or "vp:1"), shape, lambda _label: denoiser)
