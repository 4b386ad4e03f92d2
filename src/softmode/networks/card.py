"""Weights on disk: a safetensors file whose metadata hold the model card. Loading never unpickles anything."""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from softmode.data import Values
from softmode.networks.classifier import Classifier
from softmode.networks.unet import UNet

Architecture = Literal["unet", "classifier"]
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

    def build(self) -> nn.Module:
        """Return the untrained network that the card describes."""
        network = UNet if self.architecture == "unet" else Classifier
        return network(self.channels, self.classes)


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically: a reader finds the old file or the new one, never half of one."""
    path = Path(path)
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata))
    staged = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        ValueError: If the file is missing, truncated or not safetensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights: {str(path)!r} is no file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118  # a safe_open has keys() and no iteration
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights: {str(path)!r} is truncated or no safetensors file ({error})") from None


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
    try:
        fields = json.loads(metadata["softmode"])
        if fields["architecture"] not in get_args(Architecture):
            raise ValueError(f"architecture {fields['architecture']!r}")
        card = Card(**fields | {"size": tuple(fields["size"]), "epochs": float(fields["epochs"])})
        network = card.build()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"weights: {str(path)!r} has no softmode model card ({reason}); expected a file made by softmode train"
        ) from None
    statistics = {name.removeprefix(DATA): value for name, value in tensors.items() if name.startswith(DATA)}
    weights = {name: value for name, value in tensors.items() if not name.startswith(DATA)}
    check_state(network, weights, str(path))
    network.load_state_dict(weights)
    return network.float().eval().requires_grad_(False), card, statistics


def read_card(path: str | Path) -> Card:
    """Return the card of a weights file.

    Raises:
        ValueError: As for `load_weights`.
    """
    return _card_and_network(read_tensors(path)[1], path)[0]


def _card_and_network(metadata: Mapping[str, str], path: str | Path) -> tuple[Card, nn.Module]:
    """Return the card in a file's metadata and the untrained network that it describes."""
    try:
        fields = json.loads(metadata["softmode"])
        card = Card(**fields | {"size": tuple(fields["size"]), "epochs": float(fields["epochs"])})
        return card, card.build()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"weights: {str(path)!r} has no softmode model card ({error}); expected a file made by softmode train"
        ) from None


def check_state(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise a ValueError naming the keys and shapes in which weights differ from a network's."""
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    problems = [
        *(f"lacks {name}" for name in expected if name not in found),
        *(f"has {name}, which the architecture lacks" for name in found if name not in expected),
        *(
            f"{name} is {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"weights: {source!r} is of another architecture than {type(network).__name__}: "
            f"{'; '.join(problems[:3])}{more}"
        )
    bad = next((n for n, v in weights.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())), None)
    if bad:
        raise ValueError(f"weights: {source!r} has NaN or infinite values in {bad}; train it again")
