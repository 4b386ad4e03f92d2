"""Clone curves: when trajectories are copied, and the copies run on with noise of their own, do they still agree?"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softmode import provenance
from softmode.config import ClonesConfig
from softmode.denoiser import Denoiser
from softmode.device import parse_device
from softmode.dynamics import TrajectoryNoise, check_start, check_steps, initial_state
from softmode.estimate import Array
from softmode.experiments.clones_summary import steps, summarise
from softmode.experiments.curves import SPACE, check_counts, constant, fingerprint, layout, nearest_steps
from softmode.experiments.probe import check_denoiser
from softmode.lattice import Lattice
from softmode.networks.card import load_weights
from softmode.networks.registry import CLASSIFIER, Model, find_weights, load_classifier, load_model
from softmode.observe.clones import class_agreement, clone, over_pairs, sign_agreement
from softmode.process import Process, log_grid
from softmode.progress import progress_bar
from softmode.store import ArraySpec, Run

# maps states [batch, channel, *space], at no noise, to logits [batch, class]
Classify = Callable[[Tensor], Tensor]

DEFAULT_TIMES = 8
# noise levels, in units of the data, between which the default times lie
LEVELS = (20.0, 0.2)
# states whose classes the default classifier tells
FASHION_MNIST = (1, 28, 28)
NONE = "none"


@dataclass(frozen=True, eq=False)
class Cloning:
    """Everything that a checked config determines.

    Args:
        model: The model.
        denoiser: Its denoiser, with the label bound.
        classify: Maps final states to logits; None where classes are left out.
        data: Data set whose classes these are; empty where that is not known.
        note: Why classes are left out, or what to know about them; empty otherwise.
        times: The reverse grid [time].
        starts: Grid indices of the times at which trajectories are copied, rising.
        dtype: Floating type of the states.
        device: Device of the states.
    """

    model: Model
    denoiser: Denoiser
    classify: Classify | None
    data: str
    note: str
    times: Tensor
    starts: list[int]
    dtype: torch.dtype
    device: torch.device

    @property
    def process(self) -> Process:
        """Process in which to sample."""
        return self.model.process


def prepare(config: ClonesConfig, model: Model | None = None, classifier: Classify | None = None) -> Cloning:
    """Check a config and build what it describes; nothing is written.

    Args:
        config: What to copy and when.
        model: The model, where it is at hand; loaded by the config's name when left out.
        classifier: Maps states to logits [batch, class], where it is at hand; loaded by the config's name otherwise.

    Raises:
        ValueError: If any field is out of range or a model cannot be used, naming the remedy.
    """
    check_counts(config, ("trajectories", "copies", "block"))
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model = model or load_model(config.model, config.schedule, config.shape, device, dtype)
    Lattice(model.shape[1:])
    times = log_grid(config.t_max, config.t_min, config.steps)
    check_start(model.process, config.t_max, dtype)
    denoiser = model.denoiser(config.label)
    starts = nearest_steps("times", config.times or _default_times(model.process, times), times)
    check_denoiser(denoiser, model, dtype, device, float(model.process.noise_level(times[len(times) // 2])))
    given = (classifier, "", "")
    classify, data, note = given if classifier is not None else _named_classifier(config, model, device)
    if classify is not None:
        _check_classifier(classify, model, dtype, device)
    return Cloning(model, denoiser, classify, data, note, times, starts, dtype, device)


def _default_times(process: Process, times: Tensor) -> list[float]:
    levels = np.geomspace(*LEVELS, DEFAULT_TIMES)
    return process.time(torch.from_numpy(levels)).clamp(float(times[-1]), float(times[0])).tolist()


def _named_classifier(config: ClonesConfig, model: Model, device: torch.device) -> tuple[Classify | None, str, str]:
    """Return the classifier that the config names, or None, its data set, and a note for the summary."""
    name = config.classifier
    if name == NONE:
        return None, "", "no agreement of classes: left out on request"
    if name == CLASSIFIER and model.shape != FASHION_MNIST:
        return None, "", f"no agreement of classes: {name} tells those of states {FASHION_MNIST}, not {model.shape}"
    try:
        network = load_classifier(name, device)
        card = load_weights(find_weights(name))[1]  # for what it was trained on, which the network does not know
    except ValueError as error:
        raise ValueError(
            f"classifier: cannot use {name!r} ({error}); make one with: softmode train {CLASSIFIER}, or use {NONE}"
        ) from None
    if (trained := (card.channels, *card.size)) != model.shape:
        raise ValueError(
            f"classifier: {name!r} tells the classes of states {trained}, not {model.shape}; use {NONE} or another"
        )
    foreign = model.binary and card.values != "binary"
    note = f"{name} was trained on {card.values} images, the states are binary" if foreign else ""
    return lambda x: network(x.float()), card.data, note


def _check_classifier(classify: Classify, model: Model, dtype: torch.dtype, device: torch.device) -> None:
    """Raise a ValueError unless a classifier returns finite logits for states of the model's shape."""
    x = torch.linspace(-1, 1, 2 * math.prod(model.shape), dtype=dtype, device=device).reshape(2, *model.shape)
    try:
        with torch.no_grad():
            out = classify(x)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"classifier: cannot tell the classes of states {model.shape} ({reason})") from None
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 2 or not bool(torch.isfinite(out).all()):
        got = f"{tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"classifier: returned {got} for two states; expected finite logits (2, classes)")


def run(
    config: ClonesConfig,
    out: str | Path,
    model: Model | None = None,
    classifier: Classify | None = None,
    progress: bool = False,
) -> Run:
    """Run the experiment, or resume it, and return the stored run.

    Args:
        config: What to copy and when.
        out: Directory of the run; one that holds an unfinished run of the same config is resumed.
        model: The model, where it is at hand; loaded by the config's name when left out.
        classifier: Maps states to logits [batch, class], where it is at hand; loaded by the config's name otherwise.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the config, a model or the directory is unusable; nothing is written then.
        NonFiniteStateError: If a state becomes NaN or infinite; finished blocks stay readable.
    """
    cloning = prepare(config, model, classifier)
    check_steps(cloning.process, cloning.times)
    identity = {
        "experiment": "clones", "config": asdict(config), "versions": provenance.versions(),
        "model": {"name": cloning.model.name, "shape": list(cloning.model.shape),
                  "process": type(cloning.process).__name__, **_fingerprints(cloning)},
        "classifier": {"used": cloning.classify is not None, "data": cloning.data, "note": cloning.note},
    }  # fmt: skip
    stored = Run.create(out, identity, _constants(cloning, config), _curves(cloning, config), config.block)
    start = time.perf_counter()
    pending = list(stored.pending(config.block, config.trajectories))
    with progress_bar(
        progress and bool(pending), len(pending) * sum(steps(config.steps, config.copies, cloning.starts))
    ) as advance:
        for index, trajectories in pending:
            stored.write(index, trajectories, measure(cloning, config, trajectories, advance))
    stored.finish()
    stored.write_summary(summarise(stored, cloning.process, time.perf_counter() - start))
    return stored


def _fingerprints(cloning: Cloning) -> dict[str, float | None]:
    """Return a fingerprint of the model and one of the classifier."""
    made = cloning.model.shape, cloning.device, cloning.dtype
    return {
        "fingerprint": fingerprint(lambda x: cloning.denoiser(x, 1.0), *made),
        "classifier": None if cloning.classify is None else fingerprint(cloning.classify, *made),
    }


def measure(
    cloning: Cloning, config: ClonesConfig, trajectories: range, on_step: Callable[[], None] = lambda: None
) -> dict[str, Array]:
    """Run some trajectories and their copies and return every stored array of theirs, [trajectory, ...]."""
    noise = TrajectoryNoise(config.seed, trajectories, cloning.device)
    x = initial_state(cloning.process, config.t_max, noise, cloning.model.shape, cloning.dtype)
    parent, copies = clone(
        cloning.denoiser,
        cloning.process,
        x,
        cloning.times,
        noise,
        cloning.starts,
        config.copies,
        # keyed by grid index, so that a copy does not depend on which other times are copied at
        lambda k, copy: TrajectoryNoise(config.seed, trajectories, cloning.device, (k, copy)),
        on_step,
    )
    values = {
        "parent": parent,
        "first_copy": copies[:, :, 0],
        "sign_agreement": over_pairs(sign_agreement, parent, copies),
    }
    if cloning.classify is not None:
        parent_class = _classes(cloning, cloning.classify, parent)
        each = [_classes(cloning, cloning.classify, states) for states in copies.flatten(1, 2).unbind(1)]
        copy_class = torch.stack(each, 1).reshape(copies.shape[:3])
        values |= {
            "parent_class": parent_class,
            "copy_class": copy_class,
            "class_agreement": over_pairs(class_agreement, parent_class, copy_class),
        }
    return {name: value.numpy() for name, value in values.items()}


@torch.no_grad()
def _classes(cloning: Cloning, classify: Classify, states: Tensor) -> Tensor:
    """Return the classes of final states, which are x_0 up to the last time's noise once divided by alpha."""
    alpha = float(cloning.process.alpha(cloning.times[-1]))
    return classify(states.to(cloning.device) / alpha).argmax(1).cpu()


def _constants(cloning: Cloning, config: ClonesConfig) -> dict[str, tuple[ArraySpec, Array]]:
    copied = cloning.times[cloning.starts]
    level = cloning.process.noise_level(copied)
    return {
        "copy_time": constant(copied, ("copy_time",), "time t* at which trajectories are copied", "process time"),
        "copy_level": constant(level, ("copy_time",), "EDM noise level sigma/alpha at t*"),
        "copy_step": constant(cloning.starts, ("copy_time",), "step of the grid at t*"),
        "trajectory": constant(np.arange(config.trajectories), ("trajectory",), "trajectory index"),
    }


def _curves(cloning: Cloning, config: ClonesConfig) -> dict[str, ArraySpec]:
    """Describe every array that is filled by blocks."""
    channels, *sides = cloning.model.shape
    space = SPACE[-len(sides) :]
    sizes = {
        "trajectory": config.trajectories,
        "copy_time": len(cloning.starts),
        "copy": config.copies,
        "channel": channels,
        **dict(zip(space, sides, strict=True)),
    }
    field, pairs = f"channel {' '.join(space)}", "mean over pairs of a trajectory and its copies"
    curves: dict[str, tuple[str, str, str, str, str]] = {
        "parent": (field, config.dtype, "final state of the trajectory", "1", "biroli2024"),
        "first_copy": (f"copy_time {field}", config.dtype, "final state of its first copy", "1", "biroli2024"),
        "sign_agreement": ("copy_time", "float64", "share of sites of equal sign", "1", pairs),
    }
    if cloning.classify is not None:
        curves |= {
            "parent_class": ("", "int64", "class of the trajectory's final state", "1", "classifier"),
            "copy_class": ("copy_time copy", "int64", "class of the copy's final state", "1", "classifier"),
            "class_agreement": ("copy_time", "float64", "whether classes are equal", "1", pairs),
        }
    return layout(sizes, curves)
