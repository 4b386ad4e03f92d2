"""Clone curves: when trajectories are copied, and the copies run on with noise of their own, do they still agree?"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softmode.runs import provenance
from softmode.config import ClonesConfig
from softmode.contract import Classify, check_classifier, check_denoiser
from softmode.denoiser import Denoiser
from softmode.device import parse_device
from softmode.dynamics import TrajectoryNoise, check_start, check_steps, initial_state
from softmode.estimate import Array
from softmode.experiments.checks import named_classifier
from softmode.experiments.clones_summary import steps, summarise
from softmode.experiments.curves import SPACE, check_counts, constant, fingerprint, layout, nearest_steps
from softmode.experiments.labels import Label, by_label, parse_labels
from softmode.experiments.probe_setup import check_levels, default_times
from softmode.lattice import Lattice
from softmode.model import Model
from softmode.networks.load import load_model
from softmode.observe.clones import class_agreement, clone, over_pairs, sign_agreement
from softmode.process import Process, log_grid
from softmode.runs.progress import progress_bar
from softmode.runs.store import ArraySpec, Run

DEFAULT_TIMES = 8
# noise levels, in units of the data, between which the default times lie
LEVELS = (20.0, 0.2)
# first and last time of a VP process: sigma/alpha is 148 at the first for vp:1
TIMES = (10.0, 1e-3)


@dataclass(frozen=True, eq=False)
class Cloning:
    """Everything that a checked config determines.

    Args:
        model: The model.
        config: The config, with no field left open.
        denoisers: Its denoiser by class, which are dealt out to the trajectories in turn.
        classify: Maps final states to logits; None where classes are left out.
        data: Data set whose classes these are; empty where that is not known.
        note: Why classes are left out, or what to know about them; empty otherwise.
        times: The reverse grid [time].
        starts: Grid indices of the times at which trajectories are copied, rising.
        dtype: Floating type of the states.
        device: Device of the states.
    """

    model: Model
    config: ClonesConfig
    denoisers: dict[Label, Denoiser]
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
    model = model or load_model(config.model, config.schedule, config.shape, device, dtype, prompt=config.prompt)
    Lattice(model.shape[1:])
    first, last = default_times(model, TIMES)
    t_max, t_min = first if config.t_max is None else config.t_max, last if config.t_min is None else config.t_min
    config = replace(config, t_max=t_max, t_min=t_min)
    times = log_grid(t_max, t_min, config.steps)
    check_start(model.process, t_max, dtype)
    check_levels(model, t_max, t_min)
    denoisers = {label: model.denoiser(label) for label in parse_labels(config.labels, model, config.trajectories)}
    starts = nearest_steps("times", config.times or _default_times(model.process, times), times)
    for denoiser in denoisers.values():
        check_denoiser(denoiser, model, dtype, device, float(model.process.noise_level(times[len(times) // 2])))
    given = (classifier, "", "")
    classify, data, note = given if classifier is not None else named_classifier(config.classifier, model, device)
    if classify is not None:
        check_classifier(classify, model, dtype, device)
    return Cloning(model, config, denoisers, classify, data, note, times, starts, dtype, device)


def _default_times(process: Process, times: Tensor) -> list[float]:
    levels = np.geomspace(*LEVELS, DEFAULT_TIMES)
    return process.time(torch.from_numpy(levels)).clamp(float(times[-1]), float(times[0])).tolist()


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
    config = cloning.config
    check_steps(cloning.process, cloning.times)
    identity = {
        "experiment": "clones", "config": asdict(config), "versions": provenance.versions(),
        "model": {"name": cloning.model.name, "shape": list(cloning.model.shape),
                  "process": type(cloning.process).__name__, **_fingerprints(cloning)},
        "classifier": {"used": cloning.classify is not None, "data": cloning.data, "note": cloning.note},
    }  # fmt: skip
    stored = Run.create(out, identity, _constants(cloning), _curves(cloning), config.block)
    start = time.perf_counter()
    pending = list(stored.pending(config.block, config.trajectories))
    batches = sum(min(len(cloning.denoisers), len(trajectories)) for _, trajectories in pending)
    work = batches * sum(steps(config.steps, config.copies, cloning.starts))
    with progress_bar(progress and bool(pending), work) as advance:
        for index, trajectories in pending:
            stored.write(index, trajectories, measure(cloning, trajectories, advance))
    stored.finish()
    stored.write_summary(summarise(stored, cloning.process, time.perf_counter() - start))
    return stored


def _fingerprints(cloning: Cloning) -> dict[str, float | None]:
    """Return a fingerprint of the model and one of the classifier."""
    made = cloning.model.shape, cloning.device, cloning.dtype
    first = next(iter(cloning.denoisers.values()))
    return {
        "fingerprint": fingerprint(lambda x: first(x, 1.0), *made),
        "classifier": None if cloning.classify is None else fingerprint(cloning.classify, *made),
    }


def measure(cloning: Cloning, trajectories: range, on_step: Callable[[], None] = lambda: None) -> dict[str, Array]:
    """Run some trajectories and their copies and return every stored array of theirs, [trajectory, ...]."""
    labels = tuple(cloning.denoisers)
    return by_label(labels, trajectories, lambda label, group: _measure(cloning, label, group, on_step))


def _measure(cloning: Cloning, label: Label, trajectories: list[int], on_step: Callable[[], None]) -> dict[str, Array]:
    """Run trajectories of one class and their copies."""
    config = cloning.config
    noise = TrajectoryNoise(config.seed, trajectories, cloning.device)
    x = initial_state(cloning.process, float(cloning.times[0]), noise, cloning.model.shape, cloning.dtype)
    parent, copies = clone(
        cloning.denoisers[label],
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


def _constants(cloning: Cloning) -> dict[str, tuple[ArraySpec, Array]]:
    copied = cloning.times[cloning.starts]
    level = cloning.process.noise_level(copied)
    return {
        "copy_time": constant(copied, ("copy_time",), "time t* at which trajectories are copied", "process time"),
        "copy_level": constant(level, ("copy_time",), "EDM noise level sigma/alpha at t*"),
        "copy_step": constant(cloning.starts, ("copy_time",), "step of the grid at t*"),
        "trajectory": constant(np.arange(cloning.config.trajectories), ("trajectory",), "trajectory index"),
    }


def _curves(cloning: Cloning) -> dict[str, ArraySpec]:
    """Describe every array that is filled by blocks."""
    config = cloning.config
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
