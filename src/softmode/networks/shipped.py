"""Weights of softmode's own networks: those in the package by name, and what softmode train makes by path."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softmode.data import Images
from softmode.denoiser import Denoiser, from_noise
from softmode.exact.gaussian import GaussianDenoiser
from softmode.files import DIRECTORY, FILE, kind_of, sha256
from softmode.labels import Shown
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.card import DATA, Card, check_state, load_weights, read_tensors
from softmode.networks.classifier import Classifier, ImageClassifier
from softmode.networks.preconditioned import Preconditioned, white
from softmode.process import parse_process

SHIPPED = Path(__file__).parent / "weights"
SUFFIX = ".safetensors"
CLASSIFIER = "fashion-mnist-classifier"
AVATARS_CLASSIFIER = "avatars-classifier"
# a network that takes states of any sides
ANY_SIDES = "fashion-mnist-binary-f4"
# names of before, and what they name now
ALIASES = {"fashion-mnist-labelled": "fashion-mnist"}


def load_shipped(
    source: str, schedule: str, shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Model:
    """Return the model of a shipped name, a weights file or a directory of softmode train.

    Args:
        source: Name or path.
        schedule: Process in which to sample; that of its training when left out.
        shape: Shape of a state, of any sides; that of its training when left out.
        device: Device of its weights.
        dtype: Floating type of its weights.

    Raises:
        ValueError: If there is none, or its file is damaged or of something else.
    """
    path = find_weights(source)
    network, card, statistics = load_weights(path)
    if card.architecture != "unet":
        raise refusal(
            f"model: {quote(source)} is a {card.architecture}, no denoiser; name a network of softmode models"
        )
    _check_statistics(statistics, card, path)
    try:
        process = parse_process(card.schedule)
    except ValueError as error:
        raise refusal(f"weights: {quote(str(path))} has a card that cannot be used ({error})") from None
    trained = (card.channels, *card.size)
    if shape and (shape[0] != card.channels or len(shape) != len(trained)):
        raise refusal(f"shape: got {shape}; expected {card.channels} channel(s) and two sides for {quote(source)}")
    sides = (shape or trained)[1:]
    null = _null(card, statistics, sides, path) if card.sigma_data else None
    network.to(device, dtype)
    kept = statistics.get("images")

    def of(labelled: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
        return Preconditioned(labelled, null, card.sigma_data, card.log_odds) if null else from_noise(labelled, process)

    return Model(
        name=source,
        process=parse_process(schedule) if schedule else process,
        shape=shape or trained,
        bind=lambda label: of(_labelled(network, label)),
        batched=lambda labels: of(_each_labelled(network, labels)),
        levels=(card.levels[0], card.levels[1]) if card.levels else None,
        classes=card.classes,
        attributes=card.attributes,
        binary=card.values == "binary",
        images=None if kept is None else Images(kept, statistics["labels"], card.values, card.attributes),
        spectrum=statistics.get("spectrum"),
        mean=statistics.get("mean"),
        card=card,
        inputs={"weights": sha256(path)},
    )


def load_shipped_classifier(source: str, device: torch.device | str) -> ImageClassifier:
    """Return the classifier of a shipped name, a weights file or a directory of softmode train.

    Raises:
        ValueError: If there is none, or it is something else.
    """
    network, _, _ = load_weights(find_weights(source))
    if not isinstance(network, Classifier):
        raise refusal(f"classifier: {quote(source)} is no classifier; use {CLASSIFIER}")
    network.to(device)
    return network


def shipped_inputs(source: str) -> dict[str, str]:
    """Return the digest of the weights file of `find_weights`."""
    return {"weights": sha256(find_weights(source))}


def find_weights(source: str) -> Path:
    """Return the weights file of a shipped name or its alias, a path, or a directory of softmode train.

    Raises:
        ValueError: If there is none, naming the nearest names.
    """
    names, name = shipped_names(), ALIASES.get(source, source)
    if name in names:
        return SHIPPED / f"{name}{SUFFIX}"
    path = Path(source)
    if kind_of(path) == DIRECTORY:
        path = path / f"weights{SUFFIX}"
    if (kind := kind_of(path)) == FILE:
        return path
    if path.suffix or len(path.parts) > 1:
        raise refusal(
            f"model: there is no file {quote(str(path))} ({kind}); softmode train makes one, softmode models "
            "lists names"
        )
    near = difflib.get_close_matches(source[:100], names, n=3, cutoff=0.3) or names
    raise refusal(
        f"model: there is no {quote(source)}; did you mean {' or '.join(near)}? A path or python:module:function "
        "works too"
    )


def start_from(network: nn.Module, source: str) -> None:
    """Copy the weights of another network; a network without classes leaves the labels' embedding at zero.

    Raises:
        ValueError: If the source is of another architecture.
    """
    tensors, _ = read_tensors(find_weights(source))
    weights = {
        name: value.float() if value.is_floating_point() else value
        for name, value in tensors.items() if not name.startswith(DATA)
    }  # fmt: skip
    own = network.state_dict()
    if "label.weight" in own and "label.weight" not in weights:
        weights["label.weight"] = torch.zeros_like(own["label.weight"])
    check_state(network, weights, source)
    network.load_state_dict(weights)


def shipped_names() -> list[str]:
    """Return the names of the weights inside the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED.glob(f"*{SUFFIX}"))


def _null(card: Card, statistics: Mapping[str, Tensor], sides: tuple[int, ...], path: Path) -> GaussianDenoiser:
    """Return the Gaussian model that a preconditioned network adds to."""
    if not card.gaussian:
        return white(sides, card.sigma_data)
    if sides != card.size:
        raise refusal(
            f"shape: got sides {sides}; expected {card.size}, whose spectrum {quote(path.stem)} is built around; a "
            f"network of train --recipe paper takes any, such as {ANY_SIDES}"
        )
    if "spectrum" not in statistics:
        raise refusal(f"weights: {quote(str(path))} lacks {DATA}spectrum, which it is built around; train it again")
    try:
        return GaussianDenoiser(statistics["spectrum"][-1].double(), statistics["mean"][-1])
    except ValueError as error:
        raise refusal(f"weights: {quote(str(path))} cannot be used ({error}); train it again") from None


def _labelled(network: nn.Module, label: Shown) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a network with its class or its attributes bound, for batches of any size."""
    if label is None:
        return network
    return lambda x, t: network(
        x, t, torch.tensor(label, device=x.device).expand(len(x), *[-1] * isinstance(label, tuple))
    )


def _each_labelled(network: nn.Module, labels: Sequence[Shown]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a network with the class or the attributes of every state bound, for one batch of these."""
    counts: Any = network.labels
    rows = [counts if label is None else label if isinstance(label, tuple) else (label,) for label in labels]
    told = torch.tensor(rows, device=next(network.parameters()).device)
    return lambda x, t: network(x, t, told)


def _check_statistics(statistics: Mapping[str, Tensor], card: Card, path: Path) -> None:
    """Raise a ValueError unless the data beside the weights are those of the card."""
    groups, count = card.classes + 1 if card.classes else 1, len(statistics.get("images", ()))
    expected = {
        "spectrum": ((groups, *card.size), torch.float32), "mean": ((groups, card.channels, *card.size), torch.float32),
        "images": ((count, card.channels, *card.size), torch.uint8),
        "labels": ((count, len(card.attributes)) if card.attributes else (count,), torch.int64),
    }  # fmt: skip
    for name, value in statistics.items():
        if name not in expected or (tuple(value.shape), value.dtype) != expected[name]:
            wanted = "{} {}".format(*expected[name]) if name in expected else f"one of {', '.join(expected)}"
            got = f"{tuple(value.shape)} {value.dtype}"
            raise refusal(f"weights: {quote(str(path))} has {quote(DATA + name)} of {got}; expected {wanted}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise refusal(f"weights: {quote(str(path))} has NaN or infinite values in {DATA}{name}; train it again")
    for name, other in (("images", "labels"), ("spectrum", "mean")):
        if (name in statistics) != (other in statistics):
            raise refusal(f"weights: {quote(str(path))} has {DATA}{name} or {DATA}{other} alone; expected both")
