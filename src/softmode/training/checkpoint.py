"""Checkpoints: everything that the next step of a training depends on, in one file, and whether it can be trusted."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softmode.bounds import shown, shown_path
from softmode.networks.card import CHANGED, read_tensors, write_tensors
from softmode.training.config import MOST_EPOCHS
from softmode.training.directory import writing


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after some step.

    Args:
        identity: The settings that the weights depend on.
        inputs: SHA-256 of the training's images and first weights, by name; checkpoints of old versions have none.
        step: Steps that are done.
        history: What was measured after each epoch.
        losses: The loss of each step since then.
        parts: Tensors of the `network`, its `average` and AdamW's moments `exp_avg` and `exp_avg_sq`, by name.
    """

    identity: Mapping[str, Any]
    inputs: Mapping[str, str]
    step: int
    history: list[dict[str, Any]]
    losses: list[float]
    parts: Mapping[str, Mapping[str, Tensor]]

    def write(self, path: Path) -> None:
        """Write it atomically, with a digest of its tensors."""
        tensors = {f"{part}/{name}": value for part, values in self.parts.items() for name, value in values.items()}
        stored = {
            "identity": self.identity,
            "inputs": self.inputs,
            "tensors": _digest_by_name(tensors),
            "step": self.step,
            "history": self.history,
            "losses": self.losses,
        }
        with writing(path):
            write_tensors(path, tensors, {"softmode": json.dumps(stored)})

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Return the checkpoint of a file.

        Raises:
            ValueError: If the file is damaged or contradicts itself.
        """
        try:
            tensors, metadata = read_tensors(path)
        except ValueError as error:
            words = CHANGED if CHANGED in str(error) else "it is truncated or no safetensors file"
            raise damaged(path, words) from None
        try:
            stored = json.loads(metadata["softmode"])
        except (KeyError, ValueError, RecursionError):
            raise damaged(path, "it does not say what it is") from None
        if problem := _problem_of_description(stored):
            raise damaged(path, problem)
        if "tensors" in stored and stored["tensors"] != _digest_by_name(tensors):
            raise damaged(path, CHANGED)
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value
        fields = {name: stored[name] for name in ("identity", "step", "history", "losses")}
        return cls(**fields, inputs=stored.get("inputs", {}), parts=parts)

    def verify(self, path: Path, network: nn.Module, steps_per_epoch: int) -> None:
        """Raise a ValueError unless the checkpoint can be one of this network."""
        measured = 0
        if self.history:
            line = self.history[-1]
            measured = line.get("step", round(line["epoch"] * steps_per_epoch))
        if self.step != measured + len(self.losses):
            raise damaged(path, f"step {shown(self.step)}, but losses of {measured} + {len(self.losses)} steps")
        state, parameters = network.state_dict(), dict(network.named_parameters())
        expected = {"network": state, "average": state, "exp_avg": parameters, "exp_avg_sq": parameters}
        for part, tensors in expected.items():
            if problem := _problem_of_tensors(self.parts.get(part, {}), tensors):
                raise damaged(path, f"{part}: {problem}")
        if any(bool((value < 0).any()) for value in self.parts["exp_avg_sq"].values()):
            raise damaged(path, "negative squares in exp_avg_sq")


def damaged(path: Path, reason: str) -> ValueError:
    """Return the error of a checkpoint that cannot be used."""
    return ValueError(
        f"checkpoint: {shown_path(path)} is damaged ({reason}); put a copy of it back or choose another directory"
    )


def digest(parts: Iterable[Tensor | bytes]) -> str:
    """Return the SHA-256 of some bytes and tensors, of these with their shape and type."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            found.update(f"{tuple(part.shape)} {part.dtype} ".encode())
            found.update(part.detach().cpu().contiguous().numpy().tobytes())
        else:
            found.update(part)
    return found.hexdigest()


def _digest_by_name(tensors: Mapping[str, Tensor]) -> str:
    return digest(part for name in sorted(tensors) for part in (name.encode(), tensors[name]))


def _problem_of_description(stored: Any) -> str:
    """Return what a checkpoint's description lacks, or nothing."""
    if not isinstance(stored, dict) or not isinstance(stored.get("identity"), dict):
        return "it does not say what it is"
    inputs = stored.get("inputs", {})
    if not isinstance(inputs, dict) or not all(isinstance(value, str) for value in inputs.values()):
        return "its inputs are unreadable"
    if not _is_count(stored.get("step")):
        return f"step {shown(stored.get('step'))}"
    history, losses = stored.get("history"), stored.get("losses")
    if not isinstance(history, list) or not all(_is_line(line) for line in history):
        return "its history is unreadable"
    if not isinstance(losses, list) or not all(_is_finite(loss) for loss in losses):
        return "its losses are unreadable"
    return ""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _is_line(line: Any) -> bool:
    """Return whether this is a line of a history; old ones do not count steps."""
    return (
        isinstance(line, dict)
        and _is_finite(line.get("epoch"))
        and 0 < line["epoch"] <= MOST_EPOCHS
        and _is_finite(line.get("loss"))
        and _is_count(line.get("step", 0))
        and isinstance(line.get("held_out"), dict)
    )


def _problem_of_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return the first name at which tensors differ in kind from others, and how, or nothing."""
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            return f"{shown(name)} is {'missing' if name in expected else 'unknown'}"
        value, other = found[name], expected[name]
        if value.shape != other.shape or value.dtype != other.dtype:
            sizes = (f"{tensor.dtype} {shown(tuple(tensor.shape), 40)}" for tensor in (value, other))
            return f"{name} is {' instead of '.join(sizes)}"
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return f"{name} has NaN or infinite values"
    return ""
