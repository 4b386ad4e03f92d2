"""What a training keeps on disk: its checkpoint, its weights and its history, and how they are taken up again."""

import json
import warnings
from dataclasses import asdict

import torch
from torch import Tensor

from softmode.bounds import shown, shown_path
from softmode.networks.card import DATA, read_tensors, save_weights
from softmode.training.checkpoint import Checkpoint
from softmode.training.directory import CHECKPOINT, HISTORY, WEIGHTS, read_text, write_text, writing
from softmode.training.state import Training

# what AdamW remembers of each weight
MOMENTS = ("exp_avg", "exp_avg_sq")
# the option that names each input of a training, and what it is called
INPUTS = {
    "data": ("data", "training images"),
    "held_out": ("data", "held-out images"),
    "start": ("start", "first weights"),
}


def resume(training: Training) -> None:
    """Take up the checkpoint of `out`, if there is one, and write again what is lost beside it.

    Raises:
        ValueError: If it is damaged, or of a training with other settings or inputs.
    """
    path, name = training.out / CHECKPOINT, shown_path(training.out)
    if not path.exists():
        return
    found = Checkpoint.read(path)
    changed = [
        f"{key} {shown(found.identity.get(key), 40)} instead of {shown(value, 40)}"
        for key, value in training.identity.items()
        if found.identity.get(key) != value
    ]
    if changed:
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise ValueError(f"out: {name} holds a training with {changed[0]}{more}; choose another directory")
    for key, value in training.inputs.items():
        if found.inputs.get(key, value) != value:
            field, what = INPUTS[key]
            raise ValueError(
                f"{field}: got other {what} than the training in {name} (SHA-256 {value[:8]} instead of "
                f"{found.inputs[key][:8]}); give it the same or choose another directory"
            )
    found.verify(path, training.network, training.steps_per_epoch)
    if found.step > training.total:
        raise ValueError(
            f"epochs: got {training.settings[0]:g}; {name} has been trained for "
            f"{found.step / training.steps_per_epoch:g}: raise epochs or choose another directory"
        )
    training.inputs = {**found.inputs, **training.inputs}
    training.step, training.history, training.losses = found.step, found.history, found.losses
    training.network.load_state_dict(found.parts["network"])
    training.average = {key: value.to(training.device) for key, value in found.parts["average"].items()}
    for key, parameter in training.network.named_parameters():
        moments = {part: found.parts[part][key].to(training.device) for part in MOMENTS}
        training.optimizer.state[parameter] = {"step": torch.tensor(float(training.step)), **moments}
    if training.workers.rank == 0:
        restore(training)


def write_checkpoint(training: Training) -> None:
    """Write everything that the next step depends on, atomically."""
    if training.workers.rank:
        return
    state, names = training.optimizer.state, dict(training.network.named_parameters())
    moments = {part: {name: state[parameter][part] for name, parameter in names.items()} for part in MOMENTS}
    parts = {"network": training.network.state_dict(), "average": training.average, **moments}
    fields = training.identity, training.inputs, training.step, training.history, training.losses
    Checkpoint(*fields, parts).write(training.out / CHECKPOINT)


def write_weights(training: Training) -> None:
    """Write the averaged weights of a finished epoch."""
    path = training.out / WEIGHTS
    with writing(path):
        save_weights(path, training.averaged(), training.finished_card, training.statistics)


def write_history(training: Training) -> None:
    """Write what was measured after each epoch."""
    with writing(training.out / HISTORY):
        write_text(training.out / HISTORY, _history(training))


def restore(training: Training) -> None:
    """Write the weights of a finished epoch, and the history, again where they are not those of the checkpoint."""
    if not training.history:
        return
    lost = []
    if not training.losses and not _holds_weights(training):
        write_weights(training)
        lost.append(WEIGHTS)
    if read_text(training.out / HISTORY) != _history(training):
        write_history(training)
        lost.append(HISTORY)
    if lost:
        warnings.warn(
            f"{' and '.join(lost)} of {shown_path(training.out)} missing or not of this training: written again from "
            "the checkpoint",
            stacklevel=2,
        )


def _history(training: Training) -> str:
    return json.dumps(training.history, indent=1) + "\n"


def _holds_weights(training: Training) -> bool:
    """Return whether the weights file holds the present averaged weights with their card and statistics."""
    try:
        tensors, metadata = read_tensors(training.out / WEIGHTS)
        card = json.loads(metadata["softmode"])
    except (ValueError, KeyError, RecursionError):
        return False
    weights = {name: value.half() if value.is_floating_point() else value for name, value in training.average.items()}
    statistics = {DATA + name: value for name, value in training.statistics.items()}
    expected = asdict(training.finished_card)
    # versions and devices may change between two sittings
    expected["made"] = card.get("made") if isinstance(card, dict) else None
    return (
        card == json.loads(json.dumps(expected))
        and tensors.keys() == weights.keys() | statistics.keys()
        and all(torch.equal(tensors[name], value.cpu()) for name, value in weights.items())
        and all(_close(tensors[name], value.cpu()) for name, value in statistics.items())
    )


def _close(value: Tensor, other: Tensor) -> bool:
    """Return whether statistics are equal, up to the rounding of another device."""
    return value.shape == other.shape and torch.allclose(value.double(), other.double(), rtol=1e-4, atol=1e-6)
