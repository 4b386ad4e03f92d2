"""Weights on disk: a safetensors file whose metadata hold the model card. Loading never unpickles anything."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from softmode.data import Values
from softmode.files import json_object, regular_file
from softmode.message import first_line, quote, refusal
from softmode.networks.classifier import Classifier
from softmode.networks.fields import check_number, check_pair, check_text, check_whole, check_wholes
from softmode.networks.unet import UNet

Architecture = Literal["unet", "classifier"]
# channels, classes and sites along an axis of any network, and times and epochs of any training, at most
MOST_CHANNELS, MOST_CLASSES, LONGEST_SIDE, LATEST = 1024, 10**5, 4096, 1e9
NUMBERS = ("t_min", "t_max", "epochs", "sigma_data")
LISTS = ("size", "attention", "levels")
MOST_ATTRIBUTES, MOST_VALUES = 64, 1000
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# the tensor that holds the digest of all others; files of before have none
DIGEST = "sha256"
CHANGED = "its tensors are not those that were written"
# tensors of the file that are statistics of the data, not weights
DATA = "data."


@dataclass(frozen=True)
class Card:
    """What a weights file is: the network, its data, and how it was made.

    Args:
        architecture: Which network.
        channels: Channels of an image.
        size: Sites along each axis of the training images.
        classes: Number of classes; 0 for none.
        data: The data set.
        values: What its pixels became, `binary` or `grey`.
        schedule: Process of training, in the form of the command line.
        t_min: Shortest time of training.
        t_max: Longest time of training.
        epochs: Epochs it was trained for.
        seed: Seed of its training.
        command: Command that made it.
        held_out: Measures on held-out images, by name: numbers or lists.
        made: Training settings and versions.
        attributes: Names of the values of each attribute, by the attribute's name; empty where there are classes.
        width: Channels of the network's first stage; 0 for the architecture's own.
        attention: Sides, in sites of a training image, at which the network has self-attention.
        sigma_data: Standard deviation of the data for a preconditioned network; 0 for one that predicts the noise.
        gaussian: Whether a preconditioned network adds to the Gaussian model of its data, not to that of white data.
        rms: Whether its norms leave the mean of an image.
        log_odds: Whether a preconditioned network adds to the log-odds of data that are +-1.
        levels: Lowest and highest noise level of a preconditioned network's training.
    """

    architecture: Architecture
    channels: int
    size: tuple[int, ...]
    classes: int
    data: str
    values: Values
    schedule: str = ""
    t_min: float = 0.0
    t_max: float = 0.0
    epochs: float = 0.0
    seed: int = 0
    command: str = ""
    held_out: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    width: int = 0
    attention: tuple[int, ...] = ()
    sigma_data: float = 0.0
    gaussian: bool = False
    rms: bool = False
    log_odds: bool = False
    levels: tuple[float, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """Number of values of each label that the network takes."""
        return tuple(len(values) for values in self.attributes.values()) or ((self.classes,) if self.classes else ())

    def build(self) -> nn.Module:
        """Return the untrained network that the card describes."""
        width = {"width": self.width} if self.width else {}
        if self.architecture == "classifier":
            return Classifier(self.channels, sum(self.labels), **width)
        attention = [self.size[0] // side for side in self.attention]
        return UNet(self.channels, self.labels, attention=attention, rms=self.rms, **width)


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with its digest, atomically: a reader finds the old file or the new one."""
    path = Path(path)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(kept | {DIGEST: _digest(kept)}, dict(metadata))
    staged = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def read_tensors(path: str | Path, name: str = "weights") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Args:
        path: The file.
        name: What messages call it.

    Raises:
        ValueError: If the file is missing, truncated, not safetensors, or no longer what was written.
    """
    path = regular_file(name, path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118  # a safe_open has keys() and no iteration
            metadata = dict(file.metadata() or {})
    # beside its own error, safetensors lets through those of the types of numbers that torch lacks
    except Exception as error:
        raise refusal(f"{name}: {quote(str(path))} is truncated or no safetensors file ({first_line(error)})") from None
    written = tensors.pop(DIGEST, None)
    if written is not None and not torch.equal(written, _digest(tensors)):
        raise refusal(f"{name}: {quote(str(path))} is damaged: {CHANGED}")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the SHA-256 of some tensors, their names and types, as 32 bytes."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.uint8)


def save_weights(path: str | Path, network: nn.Module, card: Card, statistics: Mapping[str, Tensor]) -> None:
    """Write a network in half precision with its card and the statistics of its data.

    Args:
        path: The file.
        network: Its state is stored as float16.
        card: What it is.
        statistics: Tensors that are no weights, stored as they are under `data.` names.
    """
    weights = {
        name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()
    }
    extra = {DATA + name: value for name, value in statistics.items()}
    write_tensors(path, weights | extra, {"softmode": json.dumps(asdict(card))})


def load_weights(path: str | Path) -> tuple[nn.Module, Card, dict[str, Tensor]]:
    """Return the network of a weights file in float32 and evaluation mode, its card and its data's statistics.

    Raises:
        ValueError: If the file is missing, damaged, has no card, or does not fit the architecture it names.
    """
    tensors, metadata = read_tensors(path)
    card = _card(metadata, path)
    statistics = {name.removeprefix(DATA): value for name, value in tensors.items() if name.startswith(DATA)}
    weights = {name: value for name, value in tensors.items() if not name.startswith(DATA)}
    return build(card.build, weights, str(path)), card, statistics


def read_card(path: str | Path) -> Card:
    """Return the card of a weights file.

    Raises:
        ValueError: As for `load_weights`.
    """
    return _card(read_tensors(path)[1], path)


def _card(metadata: Mapping[str, str], path: str | Path) -> Card:
    """Return the card in a file's metadata."""
    try:
        fields = json_object(metadata["softmode"])
        _check(fields)
        # JSON has lists for tuples, and 2 for 2.0
        times = {name: float(fields[name]) for name in NUMBERS if name in fields}
        lists = {name: tuple(fields[name]) for name in LISTS if name in fields}
        attributes = {name: tuple(values) for name, values in fields.get("attributes", {}).items()}
        return Card(**fields | times | lists | {"attributes": attributes})
    except (KeyError, TypeError, ValueError) as error:
        raise refusal(
            f"weights: {quote(str(path))} has no softmode model card ({first_line(error)}); expected a file "
            "made by softmode train"
        ) from None


def _check(fields: Mapping[str, Any]) -> None:
    """Raise a ValueError if there is no such network, or a field of a card is missing, unknown or of another type."""
    if fields["architecture"] not in get_args(Architecture):
        raise ValueError(f"architecture {quote(fields['architecture'])}")
    if unknown := sorted(set(fields) - {each.name for each in dataclass_fields(Card)}):
        raise ValueError(f"fields that are not known: {quote(unknown)}")
    if fields["values"] not in get_args(Values):
        raise ValueError(f"values: got {quote(fields['values'])}; expected binary or grey")
    size = fields["size"]
    check_wholes("size", tuple(size) if isinstance(size, list) else size, (2, 2), (1, LONGEST_SIDE))
    check_whole("channels", fields["channels"], 1, MOST_CHANNELS)
    least = 1 if fields["architecture"] == "classifier" and not fields.get("attributes") else 0
    check_whole("classes", fields["classes"], least, MOST_CLASSES)
    check_whole("seed", fields.get("seed", 0), -(2**63), 2**64 - 1)
    for name in ("data", "schedule", "command"):
        check_text(name, fields.get(name, ""))
    for name in NUMBERS:
        check_number(name, fields.get(name, 0.0), 0.0, LATEST)
    for name in ("held_out", "made", "attributes"):
        if not isinstance(fields.get(name, {}), dict):
            raise ValueError(f"{name}: got {quote(fields[name])}; expected an object")
    for name in ("gaussian", "rms", "log_odds"):
        if not isinstance(fields.get(name, False), bool):
            raise ValueError(f"{name}: got {quote(fields[name])}; expected true or false")
    check_whole("width", fields.get("width", 0), 0, MOST_CHANNELS)
    attention, levels = (fields.get(name, []) for name in ("attention", "levels"))
    sides = [size[0] // factor for factor in (2, 4) if size[0] % factor == 0]
    if not isinstance(attention, list) or any(side not in sides for side in attention):
        raise ValueError(f"attention: got {quote(attention)}; expected half or a quarter of the image's side")
    if levels != []:
        check_pair("levels", levels, (0.0, LATEST))
    _check_attributes(fields.get("attributes", {}), fields["classes"])


def _check_attributes(attributes: Mapping[str, Any], classes: int) -> None:
    """Raise a ValueError unless these are names of attributes with the names of their values, instead of classes."""
    if len(attributes) > MOST_ATTRIBUTES or (attributes and classes):
        raise ValueError(f"attributes: got {len(attributes)} beside {classes} classes; expected either")
    for name, values in attributes.items():
        if not isinstance(values, list) or not 2 <= len(values) <= MOST_VALUES:
            raise ValueError(f"attributes: {quote(name)} has values {quote(values)}; expected 2 to {MOST_VALUES}")
        for text in (name, *values):
            check_text("attributes", text)


def build(make: Callable[[], nn.Module], weights: Mapping[str, Tensor], source: str) -> nn.Module:
    """Return a network of given weights in float32, for evaluation; memory is taken only once they are known to fit.

    Args:
        make: Returns the untrained network.
        weights: Its state.
        source: What messages call the weights.

    Raises:
        ValueError: If the weights are of another architecture, or not finite.
    """
    with torch.device("meta"):
        network = make()
    check_state(network, weights, source)
    network.to_empty(device="cpu")
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def check_state(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise a ValueError naming the keys, shapes and types in which weights differ from a network's."""
    expected = network.state_dict()
    problems = [
        *(f"lacks {name}" for name in expected if name not in weights),
        *(f"has {quote(name)[1:-1]}, which the architecture lacks" for name in weights if name not in expected),
        *(
            f"{name} is {tuple(weights[name].shape)} instead of {tuple(own.shape)}"
            for name, own in expected.items()
            if name in weights and weights[name].shape != own.shape
        ),
        *(
            f"{name} is of {weights[name].dtype}"
            for name, own in expected.items()
            if name in weights and not _stands_for(weights[name].dtype, own.dtype)
        ),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise refusal(
            f"weights: {quote(source)} is of another architecture than {type(network).__name__}: "
            f"{'; '.join(problems[:3])}{more}"
        )
    bad = next((n for n, v in weights.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())), None)
    if bad:
        raise refusal(f"weights: {quote(source)} has NaN or infinite values in {bad}; train it again")


def _stands_for(stored: torch.dtype, own: torch.dtype) -> bool:
    """Tell whether a stored type is one for weights of a network's type."""
    return stored in FLOATS if own.is_floating_point else stored == own
